"""Names that a user chooses from: what a folder of implementations offers, what installed packages add to it, and the error for
a name that is neither.

A file in the folder is a choice, and its name is what is typed. Another package adds one by an entry point in the folder's group
(`duo_oracle.strategies` for `search/strategies/`): its name is what is typed, its value the module that would else be the file.
Nothing is imported to list choices or to read their sources: a plug-in is imported when it is asked for, and not before.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

from duo_oracle.oracle.base.errors import InputError


def names_in(package: str, suffix: str = ".py") -> tuple[str, ...]:
    """The names of the files in the folder of `package` (dotted), sorted; those with a leading underscore are not choices.

    >>> names_in("duo_oracle.oracle.base")[:2]
    ('allocator', 'choices')
    """
    return tuple(sorted(path.stem for path in _folder(package).glob(f"*{suffix}") if not path.stem.startswith("_")))


def check_choice(what: str, value: str, choices: Iterable[str]) -> str:
    """`value`, where it is one of `choices`. Raises InputError naming the value, the nearest choice, and all of them.

    >>> check_choice("strategy", "beem", ["beam", "greedy"])
    Traceback (most recent call last):
        ...
    duo_oracle.oracle.base.errors.InputError: unknown strategy 'beem'; did you mean 'beam'? available: beam, greedy
    """
    available = tuple(str(choice) for choice in choices)
    if value in available:
        return value
    guess = f" {meant(value, available)}".rstrip()
    raise InputError(f"unknown {what} {value!r};{guess} available: {', '.join(available)}")


def meant(value: str, choices: Iterable[str]) -> str:
    """The question after a word that is none of `choices`, where one of them is near; else nothing.

    >>> meant("duo-tinny", ["duo-tiny"]), meant("other", ["duo-tiny"])
    ("did you mean 'duo-tiny'?", '')
    """
    near = get_close_matches(value, [str(choice) for choice in choices], n=1)
    return f"did you mean {near[0]!r}?" if near else ""


@dataclass(frozen=True)
class Choice:
    """One implementation: its name, the module that it is (or, of a file that is no module, the package that holds it), and the
    package that plugged it in; "" for a file of this one."""

    name: str
    place: str
    plugged_by: str = ""

    def __str__(self) -> str:
        return self.place + (f" (plug-in of {self.plugged_by})" if self.plugged_by else "")


@dataclass(frozen=True)
class Choices:
    """What may be chosen of one kind: the files of the folder `package`, and the entry points of the group of the same name.

    A file may be named NAME_KIND.py where NAME.py would be named like a module of the standard library (`random_router.py`).
    """

    kind: str
    package: str
    suffix: str = ".py"

    @property
    def group(self) -> str:
        return f"duo_oracle.{self.package.rpartition('.')[2]}"

    def names(self) -> tuple[str, ...]:
        """All names, sorted."""
        return tuple(sorted({choice.name for choice in self._all()}))

    def own_names(self) -> tuple[str, ...]:
        """The names of the folder's files alone, without plug-ins."""
        return tuple(sorted({choice.name for choice in self._all() if not choice.plugged_by}))

    def find(self, name: str) -> Choice:
        """The choice of that name. Raises InputError for a name that there is not, and for one that two packages claim."""
        check_choice(self.kind, name, self.names())
        first, *others = (choice for choice in self._all() if choice.name == name)
        if others:
            raise InputError(f"{self.kind} {name!r} is claimed twice: by {first} and by {others[0]}; uninstall one or rename it")
        return first

    def module(self, name: str) -> ModuleType:
        """The module of that name, imported. Raises InputError as `find`, and for a plug-in that cannot be imported."""
        choice = self.find(name)
        if not choice.plugged_by:
            return import_module(choice.place)
        if ":" in choice.place:
            raise InputError(f"{self.kind} {name!r}: an entry point of {self.group} names a module; got {choice}")
        try:
            return import_module(choice.place)
        except Exception as fault:  # whatever a stranger's code raises
            said = (str(fault).splitlines() or [""])[0]
            raise InputError(f"{self.kind} {name!r} cannot be imported: {choice}: {type(fault).__name__}: {said}") from fault

    def source(self, name: str) -> Path | None:
        """The file of that name, found without importing it; None where it lies in no folder. Raises InputError as `find`."""
        choice = self.find(name)
        if not choice.plugged_by:
            stem = choice.place.rpartition(".")[2] if self.suffix == ".py" else name
            return _folder(self.package) / f"{stem}{self.suffix}"
        ends = (f"{name}{self.suffix}",) if self.suffix != ".py" else (".py", "__init__.py")
        return next((path for path in _places(choice.place, ends) if path.is_file()), None)

    def _all(self) -> Iterator[Choice]:
        for stem in names_in(self.package, self.suffix):
            place = f"{self.package}.{stem}" if self.suffix == ".py" else self.package
            yield Choice(stem.removesuffix(f"_{self.kind}"), place)
        yield from _plugged(self.group)


@cache
def _plugged(group: str) -> tuple[Choice, ...]:
    """The entry points of a group, as the environment has them when they are first asked for."""
    from importlib.metadata import entry_points

    found = {
        Choice(point.name, point.value, f"{point.dist.name} {point.dist.version}" if point.dist else "an unnamed package")
        for point in entry_points(group=group)
    }
    return tuple(sorted(found, key=str))


def _folder(package: str) -> Path:
    parent, _, name = package.rpartition(".")
    file = import_module(parent).__file__
    assert file is not None
    return Path(file).parent / name


def _places(dotted: str, ends: tuple[str, ...]) -> Iterator[Path]:
    """Where files of a dotted name may lie: `.py` beside its last part, any other name in it. Finding a module that has a dot
    imports its parents, so only the first part is asked for."""
    top, *rest = dotted.split(".")
    spec = find_spec(top)
    if spec is None:
        return
    if not rest and spec.origin is not None and ".py" in ends:
        yield Path(spec.origin)
    for folder in spec.submodule_search_locations or ():
        for end in ends:
            if end != ".py":
                yield Path(folder, *rest, end)
            elif rest:
                yield Path(folder, *rest).with_suffix(end)
