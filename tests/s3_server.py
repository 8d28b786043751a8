"""An S3 server on loopback (moto's), that refuses a share of the requests: `python -m tests.s3_server SHARE`. Prints its port."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterable
from typing import Any

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


if __name__ == "__main__":
    from moto.server import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    application = Refusing(DomainDispatcherApplication(create_backend_app), float(sys.argv[1]))
    server = make_server("127.0.0.1", 0, application, threaded=True)
    print(server.port, flush=True)
    server.serve_forever()
