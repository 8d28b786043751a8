"""`config.yaml` of a run directory: the options of its search, as `duo-oracle search --config` takes them back.

Knows the fields of SearchConfig and none in particular but those that are of one call alone.
"""

from __future__ import annotations

from dataclasses import fields
from enum import Enum
from typing import Any

from duo_oracle.search.job.config import SearchConfig

CONFIG = "config.yaml"
_HEADING = """# What this run was searched with, defaults included. To resume it, or to search again elsewhere:
#   duo-oracle search --config THIS_FILE [--out ANOTHER_DIRECTORY]
"""
_OF_ONE_CALL = ("overwrite", "dry_run")


def config_text(config: SearchConfig) -> str:
    """A resolved config as the text of `config.yaml`."""
    import yaml

    return _HEADING + yaml.safe_dump(as_yaml(config), sort_keys=False, allow_unicode=True, width=1000)


def as_yaml(config: SearchConfig) -> dict[str, Any]:
    """The options as YAML has them, by the names of the command line; what has no value is left out."""
    values = {field: getattr(config, field.name) for field in fields(config) if field.name not in _OF_ONE_CALL}
    return {
        field.metadata.get("flag", field.name).replace("_", "-"): _plain(value)
        for field, value in values.items()
        if value not in (None, {}, ())
    }


def _plain(value: Any) -> Any:
    if isinstance(value, Enum):
        return value.value
    return list(value) if isinstance(value, tuple) else value
