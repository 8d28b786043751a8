"""The file of `--config`: options in YAML, whose numbers are read as the command line reads them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from duo_oracle.oracle.base.choices import check_choice
from duo_oracle.oracle.base.errors import InputError
from duo_oracle.oracle.base.remote import readable


def read_config_file(path: str, names: Mapping[str, str]) -> dict[str, Any]:
    """What a file says of options, by their fields' names; `names` are all that it may call them. Raises InputError.

    Texts, true and false, lists and mappings are as YAML has them. A number or a date stays the text that was written, for the
    option to read: YAML 1.1 takes 010 for 8 and 1:30 for 90.
    """
    loaded = _loaded(path)
    if loaded is None:
        return {}
    if not isinstance(loaded, dict):
        raise InputError(f"--config {path} holds a mapping of options to values; got a {type(loaded).__name__}")
    found = {}
    for key, value in loaded.items():
        spelling = str(key).replace("-", "_")
        check_choice(f"option in {path}", spelling, names)
        found[names[spelling]] = value
    return {name: value for name, value in found.items() if value is not None}


def _loaded(path: str) -> Any:
    import yaml

    class Loader(yaml.SafeLoader):
        """Of this file alone: constructors are kept by class."""

    for kind in ("int", "float", "timestamp", "binary"):
        Loader.add_constructor(f"tag:yaml.org,2002:{kind}", lambda loader, node: loader.construct_scalar(node))
    try:
        return yaml.load(readable(path).read_text(encoding="utf-8"), Loader)
    except RecursionError:
        raise InputError(f"--config {path} cannot be read as YAML: it is nested too deeply") from None
    except (OSError, ValueError, TypeError, yaml.YAMLError) as error:  # TypeError: a mapping as the key of another
        raise InputError(f"--config {path} cannot be read as YAML: {error}") from None
