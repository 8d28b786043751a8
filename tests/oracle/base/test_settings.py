"""Settings from KEY=VALUE: the type of the default, the law of the field, the nearest key; refused however they are made."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from duo_oracle.oracle.base.errors import InputError
from duo_oracle.oracle.base.settings import OwnSettings, read_pairs, read_settings, setting


@dataclass(frozen=True)
class Settings(OwnSettings):
    width: int = setting(4, "how many", least=1)
    share: float = setting(0.5, "how much", least=0, most=1)
    weight: float = setting(1.0, "how heavy", least=0)
    order: str = setting("up", "which way", choices=("up", "down"))
    loud: bool = setting(False, "whether it is said")
    name: str = setting("", "anything")


def test_values_take_the_type_of_the_default() -> None:
    raw = {"width": "8", "share": "1", "order": "down", "loud": "true", "name": "3"}
    assert read_settings("strategy beam", Settings, raw) == Settings(8, 1.0, 1.0, "down", True, "3")
    assert read_settings("strategy beam", Settings, {}) == Settings()


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        ("widht=8", "unknown setting of strategy beam 'widht'; did you mean 'width'? available: width, share, weight, order, loud"),
        ("width=0", "setting width of strategy beam must be a number and at least 1; got 0"),
        ("width=2.5", "setting width of strategy beam is a whole number; got '2.5'"),
        ("share=much", "setting share of strategy beam is a number; got 'much'"),
        ("share=1.5", "setting share of strategy beam must lie between 0 and 1; got 1.5"),
        ("share=nan", "setting share of strategy beam must lie between 0 and 1; got nan"),
        ("weight=inf", "setting weight of strategy beam must be a number and at least 0; got inf"),
        ("weight=nan", "setting weight of strategy beam must be a number and at least 0; got nan"),
        ("order=dwon", "unknown setting order of strategy beam 'dwon'; did you mean 'down'? available: up, down"),
        ("loud=yes", "setting loud of strategy beam is true or false; got 'yes'"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(raw: str, said: str) -> None:
    with pytest.raises(InputError) as refusal:
        read_settings("strategy beam", Settings, read_pairs("it takes", [raw]))
    assert str(refusal.value).startswith(said)


def test_settings_made_in_python_keep_the_same_law() -> None:
    with pytest.raises(InputError, match="setting width must be a number and at least 1; got 0"):
        Settings(width=0)


@pytest.mark.parametrize("text", ["width", "=3", " =3"])
def test_a_pair_is_a_key_and_a_value(text: str) -> None:
    with pytest.raises(InputError, match="it takes KEY=VALUE; got"):
        read_pairs("it takes", [text])
