"""A repository of the hub, as its folder in the hub's cache. Knows neither models nor datasets."""

from __future__ import annotations

from pathlib import Path

from duo_oracle.oracle.base.errors import InputError


class NotThere(InputError):
    """Neither the hub nor its cache has a repository."""


def fetched(what: str, kind: str, name: str, revision: str | None, patterns: list[str]) -> Path:
    """A repository's folder in the cache, with the files that `patterns` name. Raises InputError, one line, where there is none."""
    from huggingface_hub import constants, errors, snapshot_download  # comes with tokenizers; slow to import, and rarely wanted

    try:
        return Path(snapshot_download(name, repo_type=kind, revision=revision, allow_patterns=patterns))
    except errors.RevisionNotFoundError:
        fault = f"there is no revision {revision!r}"
    except errors.GatedRepoError:
        fault = "it is given to those whom its owner lets in; ask for it on its page, then hf auth login"
    except errors.RepositoryNotFoundError:
        fault = "there is none of this name, or it is private and wants hf auth login"
    except errors.LocalEntryNotFoundError:
        fault = "the hub is not reached (no network, or HF_HUB_OFFLINE) and its cache does not hold it"
    except Exception as other:  # of the network, the hub, or its client: all mean that it is not to be had
        fault = type(other).__name__
    raise NotThere(f"{what} of the hub is not to be had: {fault}; the cache is {constants.HF_HUB_CACHE}")


def looked_in(folder: Path) -> str:
    """Where was looked: the snapshot's folder, and whether the hub itself could be asked."""
    from huggingface_hub import constants

    offline = "; HF_HUB_OFFLINE is set, so that only the cache is read" if constants.HF_HUB_OFFLINE else ""
    return f"looked in {folder}{offline}"
