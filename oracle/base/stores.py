"""The object stores that hold runs, models and data: what fsspec needs for each, and how each replaces only what it saw.

One class per scheme. Knows no retries and no runs.
"""

from __future__ import annotations

import hashlib
import json
import logging
import threading
import uuid
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar
from urllib.parse import quote

from duo_oracle.oracle.base.disk import StoreFault
from duo_oracle.oracle.base.errors import InputError
from duo_oracle.oracle.base.patience import Late, within


class Changed(Exception):
    """The object is not the one that was to be replaced."""


class Store(ABC):
    """A store as fsspec reaches it. `version_of` names what changes with an object's content."""

    package: ClassVar[str]
    install: ClassVar[str]
    form: ClassVar[str]
    """How a place in it is written."""
    environment: ClassVar[str]
    """A word of where its credentials come from."""
    read_only: ClassVar[str | None] = None
    """Why nothing is written to it; None where it is written to."""
    options: ClassVar[Mapping[str, Any]] = {"use_listings_cache": False}
    attempts: ClassVar[int] = 8
    """How often a request is tried; once where the package itself tries it again."""
    distant: ClassVar[bool] = True
    """Whether there is a network between."""
    speaks: ClassVar[tuple[str, ...]] = ()
    """Loggers of the package, which print what a store answers."""

    def root(self, rest: str) -> str:
        """The path that fsspec knows the place by."""
        return rest

    def fresh(self, fs: Any, path: str) -> dict[str, Any]:
        """What the store says of an object now. Raises FileNotFoundError."""
        return dict(fs.info(path))

    @abstractmethod
    def version_of(self, info: Mapping[str, Any]) -> str: ...

    def put_if(self, fs: Any, path: str, content: bytes, before: str | None) -> None:
        """Writes the object in one request where it is of version `before`, or where there is none.

        What the store raises where another has written it is known by `is_refusal_of_a_swap`.
        """
        raise NotImplementedError  # of a store that is only read, which is refused before anything is written


class S3(Store):
    package, install = "s3fs", "pip install 'duo-oracle[s3]'"
    form, environment = "s3://BUCKET/PATH", "AWS_PROFILE"

    def fresh(self, fs: Any, path: str) -> dict[str, Any]:
        return dict(fs.info(path, refresh=True))

    def version_of(self, info: Mapping[str, Any]) -> str:
        return str(info["ETag"])

    def put_if(self, fs: Any, path: str, content: bytes, before: str | None) -> None:
        how: dict[str, str] = {"mode": "create"} if before is None else {"IfMatch": before}
        fs.pipe_file(path, content, **how)


class Google(Store):
    """An object's generation is its version: requests that name another one are refused by the store."""

    package, install = "gcsfs", "pip install gcsfs"
    form, environment = "gs://BUCKET/PATH", "GOOGLE_APPLICATION_CREDENTIALS"
    attempts, speaks = 1, ("gcsfs", "google")

    def version_of(self, info: Mapping[str, Any]) -> str:
        return str(info["generation"])

    def put_if(self, fs: Any, path: str, content: bytes, before: str | None) -> None:
        bucket, _, name = path.partition("/")
        apart = uuid.uuid4().hex
        parts = (("application/json", json.dumps({"name": name}).encode()), ("application/octet-stream", content))
        body = b"".join(b"--%s\r\nContent-Type: %s\r\n\r\n%s\r\n" % (apart.encode(), kind.encode(), text) for kind, text in parts)
        fs.call(  # gcsfs itself has no word for a generation that is to be replaced
            "POST",
            f"{fs._location}/upload/storage/v1/b/{quote(bucket)}/o",
            uploadType="multipart",
            ifGenerationMatch=before or "0",
            headers={"Content-Type": f"multipart/related; boundary={apart}"},
            data=body + f"--{apart}--".encode(),
            json_out=True,
        )


class Azure(Store):
    package, install = "adlfs", "pip install adlfs"
    form, environment = "az://CONTAINER/PATH", "AZURE_STORAGE_CONNECTION_STRING"
    attempts, speaks = 1, ("adlfs", "azure")

    def fresh(self, fs: Any, path: str) -> dict[str, Any]:
        return dict(fs.info(path, refresh=True))

    def version_of(self, info: Mapping[str, Any]) -> str:
        return str(info["etag"])

    def put_if(self, fs: Any, path: str, content: bytes, before: str | None) -> None:
        from azure.core import MatchConditions

        if before is None:
            fs.pipe_file(path, content, overwrite=False)
        else:
            fs.pipe_file(path, content, overwrite=True, etag=before, match_condition=MatchConditions.IfNotModified)


class Memory(Store):
    """The memory of this process, for tests and notebooks: it ends with the process, and workers send their rows to it."""

    package, install = "fsspec", "pip install 'duo-oracle[s3]'"
    form, environment = "memory://NAME/PATH", "nothing"
    options: ClassVar[Mapping[str, Any]] = {}
    distant = False
    _one_at_a_time = threading.Lock()

    def root(self, rest: str) -> str:
        return f"/{rest}"

    def fresh(self, fs: Any, path: str) -> dict[str, Any]:
        return {**fs.info(path), "sha256": hashlib.sha256(fs.cat_file(path)).hexdigest()}

    def version_of(self, info: Mapping[str, Any]) -> str:
        return str(info.get("sha256", info.get("created")))

    def put_if(self, fs: Any, path: str, content: bytes, before: str | None) -> None:
        with self._one_at_a_time:
            held = self.version_of(self.fresh(fs, path)) if fs.exists(path) else None
            if held != before:
                raise FileExistsError(path)
            fs.pipe_file(path, content)


class Hub(Store):
    package, install = "huggingface_hub", "pip install huggingface_hub"
    form, environment = "hf://OWNER/NAME or hf://datasets/OWNER/NAME/PATH", "HF_TOKEN"
    read_only = "a run is written object by object, and each would be a commit there"

    def fresh(self, fs: Any, path: str) -> dict[str, Any]:
        return dict(fs.info(path, refresh=True))

    def version_of(self, info: Mapping[str, Any]) -> str:
        return str(info.get("blob_id"))


MADE_WITHIN, REACHED_WITHIN = 7.0, 6.0
"""Seconds for what a store's package asks the network before it is used, such as who we are, and for the store's first answer."""
_made: set[str] = set()

STORES: dict[str, Store] = {"s3": S3(), "gs": Google(), "az": Azure(), "hf": Hub(), "memory": Memory()}
_SPELT = {"gcs": "gs", "abfs": "az", "abfss": "az", "adl": "az", "s3a": "s3", "s3n": "s3", "huggingface": "hf"}


def file_system(scheme: str) -> Any:
    """The file system that fsspec has for the scheme. Raises InputError where the package that reaches it is not installed, and
    StoreFault where it waits for the network in vain."""
    store = STORES[scheme]
    for name in store.speaks:
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    try:
        import fsspec

        if scheme in _made or not store.distant:
            return fsspec.filesystem(scheme, **store.options)
        found = within(MADE_WITHIN, lambda: fsspec.filesystem(scheme, **store.options))
        _made.add(scheme)
        return found
    except Late:
        logging.getLogger("asyncio").setLevel(logging.CRITICAL + 1)  # it names at the end what was left waiting
        raise StoreFault(f"{scheme}:// does not answer from this network: nothing was heard within {MADE_WITHIN:g} s") from None
    except ImportError:
        raise InputError(f"{scheme}:// needs {store.package}: {store.install}") from None
    except Exception as error:  # of the store's package, at its environment: nothing of its text, which may hold a secret
        raise InputError(
            f"{scheme}:// cannot be reached from this environment ({type(error).__name__}); it is said there, "
            f"such as in {store.environment}"
        ) from None


def none_of_a_scheme(uri: str, scheme: str) -> InputError:
    """The error for a URI of a scheme that is not known here."""
    forms = ", ".join(dict.fromkeys(store.form for store in STORES.values()))
    meant = f"; did you mean {_SPELT[scheme.lower()]}://" if scheme.lower() in _SPELT else ""
    return InputError(f"a place in a store is {forms}; got {uri!r}{meant}")


def status_of(error: BaseException | None) -> str | None:
    """The code of a store's answer, by the chain of what led to an error: a word of S3's, or a number of HTTP."""
    while error is not None:
        response = getattr(error, "response", None)
        if isinstance(response, dict):
            return str(response.get("Error", {}).get("Code"))
        for name in ("status_code", "code"):
            found = getattr(error, name, None)
            if isinstance(found, int) or (isinstance(found, str) and found.isdecimal()):
                return str(found)
        error = error.__cause__ or error.__context__
    return None


def is_answer(error: BaseException) -> bool:
    """Whether the error is what a store answered, and not that there was none."""
    return isinstance(error, FileNotFoundError | PermissionError) or status_of(error) is not None or why_in_vain(error) is not None


def is_refusal_of_a_swap(error: BaseException) -> bool:
    """Whether the store says that an object was not as the request wanted it."""
    return isinstance(error, FileExistsError) or status_of(error) in ("PreconditionFailed", "412", "ConditionalRequestConflict")


def why_in_vain(error: BaseException) -> str | None:
    """Why it would be in vain to ask again; None where it may help."""
    name, code = type(error).__name__, status_of(error)
    if "Credentials" in name or "credential" in str(error)[:200].lower():
        return "the store's environment has no credentials"
    if code in ("401", "403") or name == "ClientAuthenticationError" or str(error).startswith("Forbidden"):
        return "the store gives no access"
    if isinstance(error, ValueError | TypeError) or code in ("InvalidBucketName", "InvalidAccessKeyId", "NoSuchBucket", "400"):
        return f"the store refuses the request ({code or name})"
    return None
