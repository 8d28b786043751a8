"""The training loop alone, on two numbers: points, checkpoints, going on in the middle of a stretch and at its end, divergence."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from duo_oracle.models.training.loop import PROGRESS, Stretch, Training
from duo_oracle.models.training.progress import read_progress
from duo_oracle.models.training.schedule import cosine_rate
from duo_oracle.oracle.base.errors import InputError


@dataclass(frozen=True)
class Options:
    learning_rate: float = 0.1
    warmup: float = 0.1
    checkpoint_minutes: float = 0.0
    track: str | None = None


class Numbers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(3))


class Stopped(Exception):
    pass


def learn(out: Path, stop_before: int = -1, options: Options = Options(), bad_from: int = 1000) -> tuple[Numbers, list[str]]:
    """24 steps on the first numbers, then 11 on the second; the module and what the loop said on the way."""
    module, heard = Numbers(), []

    def stretch(steps: range, learning: nn.Parameter) -> Stretch:
        def gradients(step: int) -> Tensor:
            if step == stop_before:
                raise Stopped
            loss = ((learning - step) ** 2).sum() * (float("nan") if step >= bad_from else 1.0)
            loss.backward()
            return loss.detach()

        optimizer = torch.optim.AdamW([learning])
        return Stretch(steps, optimizer, gradients, lambda step: heard.append(f"step {step} at {optimizer.param_groups[0]['lr']}"))

    training = Training("numbers", module, options, out, 35, 7, on_save=lambda: heard.append("saved"))
    stretches = [stretch(range(24), module.first), stretch(range(24, 35), module.second)]
    history = training.learn(stretches, read_progress(out / PROGRESS, options))
    assert [(point.step, point.tokens) for point in history] == [(10, 70), (20, 140), (24, 168), (30, 210), (35, 245)]
    assert (out / "loss.csv").read_text().count("\n") == 6
    return module, heard


@pytest.mark.parametrize("stop", [5, 13, 24, 26, 31])
def test_what_was_stopped_goes_on_to_the_same_bits(tmp_path: Path, stop: int) -> None:
    whole, _ = learn(tmp_path / "whole")
    with pytest.raises(Stopped):
        learn(tmp_path / "stopped", stop_before=stop)
    again, heard = learn(tmp_path / "stopped")
    assert torch.equal(whole.first, again.first)
    assert torch.equal(whole.second, again.second)
    first = {5: 0, 13: 10, 24: 24, 26: 24, 31: 30}[stop]
    assert [int(line.split()[1]) for line in heard if line != "saved"] == list(range(first, 35))


def test_every_stretch_has_a_schedule_of_its_own_and_every_point_may_be_saved(tmp_path: Path) -> None:
    _, heard = learn(tmp_path)
    rates = [cosine_rate(step, 24, 0.1, 0.1) for step in range(24)] + [cosine_rate(step, 11, 0.1, 0.1) for step in range(11)]
    expected = [f"step {step} at {rate}" for step, rate in enumerate(rates)]
    for place in (35, 30, 24, 20, 10):
        expected.insert(place, "saved")
    assert heard == expected


def test_between_the_clock_s_strokes_only_the_end_of_a_stretch_is_saved(tmp_path: Path) -> None:
    _, heard = learn(tmp_path, options=Options(checkpoint_minutes=60.0))
    assert [place for place, line in enumerate(heard) if line == "saved"] == [24, 36]


def test_finished_training_makes_no_step(tmp_path: Path) -> None:
    whole, _ = learn(tmp_path)
    (tmp_path / "loss.csv").unlink()
    again, heard = learn(tmp_path, stop_before=0)
    assert heard == []
    assert torch.equal(whole.first, again.first)


def test_a_loss_that_is_not_finite_ends_the_training_and_is_not_saved(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"training diverged: the loss is nan at step 20; lower `learning_rate` \(now 0\.1\)"):
        learn(tmp_path, bad_from=12)
    progress = read_progress(tmp_path / PROGRESS, Options())
    assert progress is not None
    assert progress.step == 10
