"""What all tests share: models that passed their check are remembered for this session alone, not in the user's cache; and signals
end a process here as they do by default, also where the tests were started by nohup, which ignores one."""

import os
import signal

import pytest

for number in (signal.SIGTERM, signal.SIGHUP):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, signal.SIG_DFL)


@pytest.fixture(scope="session", autouse=True)
def _no_cache_of_the_user(tmp_path_factory: pytest.TempPathFactory) -> None:
    os.environ["DUO_ORACLE_CACHE"] = str(tmp_path_factory.mktemp("cache"))
