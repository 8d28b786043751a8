"""Folders of killed processes are removed by the next; those that nobody locked are another's affair."""

import os
import subprocess
import sys
from pathlib import Path

from duo_oracle.oracle.base.scratch import PREFIX, scratch_folder


def test_what_a_killed_process_left_goes_and_what_is_in_use_or_unlocked_stays(tmp_path: Path) -> None:
    foreign = tmp_path / f"{PREFIX}of-another"
    foreign.mkdir()
    held = (
        "import time; from duo_oracle.oracle.base.scratch import scratch_folder\n"
        "with scratch_folder() as folder: (folder / 'part').touch(); print(folder, flush=True); time.sleep(60)"
    )
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    processes = [
        subprocess.Popen([sys.executable, "-c", held], stdout=subprocess.PIPE, text=True, env=environment) for _ in range(2)
    ]
    try:
        killed, alive = (Path(process.stdout.readline().strip()) for process in processes if process.stdout is not None)
        processes[0].kill()
        processes[0].wait()
        assert killed.exists()
        removed: list[Path] = []
        with scratch_folder(base=tmp_path, before_removal=removed.append) as own:
            assert sorted(tmp_path.iterdir()) == sorted([foreign, alive, own])
        assert removed == [killed, own]
        assert sorted(tmp_path.iterdir()) == sorted([foreign, alive])
    finally:
        for process in processes:
            process.kill()
            process.communicate()
