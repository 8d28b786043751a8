"""How Ray is imported, started on this machine, or joined on a cluster, and who answers there."""

from __future__ import annotations

import logging
import secrets
import socket
import sys
from typing import Any

from duo_oracle.oracle.base.errors import InputError, Outage
from duo_oracle.oracle.base.ranges import whole
from duo_oracle.search.job.pool import Notify
from duo_oracle.search.job.surroundings import environment, import_path

# How a Ray of our own is to start: on the loopback alone, with a token that is in no file, and telling nobody. Ray reads
# the first three once, when it is imported: where a program imported it before us, they are left as they were. None of it is
# set when a cluster is joined.
AT_IMPORT = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": secrets.token_hex(32),
}
AT_START = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_task_oom_retries": "0"}
ANSWER_SECONDS = 2.0  # for a head to answer
_CONNECT_SECONDS = 10
_STARTS = 3  # how often Ray is started before it is given up
_LEAST_STORE_BYTES = 256 << 20
_imported_with: dict[str, str] = {}


class NotStarted(Outage):
    """A Ray of this machine's own that did not start; `fault` says it without the advice."""

    def __init__(self, said: str) -> None:
        self.fault = f"Ray did not start on this machine, {_STARTS} times: {said}"
        super().__init__(f"{self.fault}; what is done is kept, the same command tries again, and with `local=True` it does without")


def import_ray(own: bool) -> Any:
    """Ray, which a worker or a cluster's driver takes as it comes, and the driver of a Ray of its `own` as that is to start."""
    if own and "ray" not in sys.modules:
        _imported_with.update(AT_IMPORT)
    with environment(_imported_with):
        import ray
        import ray.exceptions
    return ray


def start(ray: Any, folder: str, cpus: int, weights_bytes: int, notify: Notify) -> None:
    """A Ray of this machine's own in a folder, with `cpus` cores and room for the weights. Raises NotStarted where none starts."""
    # Workers inherit the import path, so that they run the driver's files.
    with environment({**_imported_with, **AT_START, "PYTHONPATH": import_path()}):
        for left in reversed(range(_STARTS)):
            try:
                ray.init(
                    address="local",
                    num_cpus=cpus,
                    include_dashboard=False,
                    _temp_dir=folder,
                    log_to_driver=False,
                    configure_logging=False,
                    logging_level=logging.ERROR,
                    object_store_memory=max(_LEAST_STORE_BYTES, 2 * weights_bytes),
                )
                return
            except Exception as error:  # Ray has no kind of its own for it, and gives a busy machine 30 s
                ray.shutdown()
                said = " ".join(str(error).split())[:200]
                if not left:
                    raise NotStarted(said) from error
                notify(f"Ray did not start, and is started again: {said}")


def join(ray: Any, address: str) -> None:
    """Joins a cluster. Raises InputError where none answers."""
    try:
        ray.init(address=address, log_to_driver=False, configure_logging=False, logging_level=logging.ERROR)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise InputError(f"no Ray cluster answers at `address={address}`: {error}") from None


def is_client(address: str) -> bool:
    """Whether it names Ray's client, through which the driver is not itself on the cluster."""
    return address.startswith("ray://")


def answers(address: str) -> bool:
    """Whether anybody listens there."""
    host, port = _host_and_port(address)
    try:
        socket.create_connection((host, int(port)), timeout=ANSWER_SECONDS).close()
    except OSError:
        return False
    return True


def check_address(address: str) -> None:
    """Raises InputError where nothing answers at HOST:PORT: Ray itself would go on trying for a quarter of an hour."""
    if address == "auto":
        return
    host, port = _host_and_port(address)
    number = whole(port)
    if not host or number is None:
        raise InputError(f"an address of a Ray cluster is HOST:PORT, or auto for the one on this machine; got {address!r}")
    try:
        socket.create_connection((host, int(port)), timeout=_CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise InputError(f"no Ray cluster answers at `address={address}`: {error}") from None


def _host_and_port(address: str) -> tuple[str, str]:
    host, _, port = address.removeprefix("ray://").rpartition(":")
    return host.strip("[]"), port
