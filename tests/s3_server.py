"""An S3 server on loopback (moto's), that refuses a share of the requests: `python -m tests.s3_server SHARE`. Prints its port."""

from __future__ import annotations

import contextlib
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

SECRET = "duo-oracle-test-secret"
REFUSAL = b"<?xml version='1.0'?><Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"


class Refusing:
    """A WSGI application before which a share of the requests ends in 503, drawn from a seed."""

    def __init__(self, application: Callable[..., Iterable[bytes]], share: float) -> None:
        self._application, self._share, self._random = application, share, random.Random(0)

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if self._random.random() < self._share:
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            start_response("503 Slow Down", [("Content-Type", "application/xml"), ("Content-Length", str(len(REFUSAL)))])
            return [REFUSAL]
        return self._application(environ, start_response)


@contextlib.contextmanager
def serving(share: float) -> Iterator[str]:
    """The URI of a bucket whose server is a process of its own, and whose environment this process has while the block lasts."""
    with tempfile.TemporaryFile() as log:
        command = [sys.executable, "-m", "tests.s3_server", str(share)]
        server = subprocess.Popen(command, cwd=Path(__file__).parents[1], stdout=subprocess.PIPE, stderr=log)
        try:
            assert server.stdout is not None
            environment = {
                "AWS_ACCESS_KEY_ID": "test",
                "AWS_SECRET_ACCESS_KEY": SECRET,
                "AWS_DEFAULT_REGION": "us-east-1",
                "AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{int(server.stdout.readline())}",
                "AWS_CONFIG_FILE": os.devnull,
                "AWS_EC2_METADATA_DISABLED": "true",
            }
            with mock.patch.dict(os.environ, environment):
                import fsspec

                # fsspec keeps its instances, and with them the address of a server of before
                fsspec.get_filesystem_class("s3").clear_instance_cache()
                fsspec.filesystem("s3").mkdir("bucket")
                yield "s3://bucket"
        finally:
            server.kill()
            server.wait()


if __name__ == "__main__":
    from moto.server import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    application = Refusing(DomainDispatcherApplication(create_backend_app), float(sys.argv[1]))
    server = make_server("127.0.0.1", 0, application, threaded=True)
    print(server.port, flush=True)
    server.serve_forever()
