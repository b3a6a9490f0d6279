"""Recorded updates come back in the order of their steps."""

from pathlib import Path

import pytest
import torch
from torch import nn

from rhm.adapters import LoRA, attach
from rhm.adapters.attach import updates
from rhm.adapters.spectra import UpdateSnapshot, save_snapshot, take_snapshot
from rhm.errors import ModelFileError
from rhm.training.callbacks.update_recorder import FINAL, recorded_updates


def snapshots(count: int) -> list[UpdateSnapshot]:
    """The updates of a network that grow."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 5))
    attach(model, LoRA(2))
    found = []
    for step in range(count):
        found.append(take_snapshot(model, step * 250))
        with torch.no_grad():
            for _, update in updates(model):
                update.get_parameter("b").add_(1.0)
    return found


def test_what_was_recorded_is_read_in_the_order_of_steps(tmp_path: Path) -> None:
    *way, last = snapshots(12)
    for each in reversed(way):
        save_snapshot(each, tmp_path / f"step_{each.step:07d}.safetensors")
    save_snapshot(last, tmp_path / FINAL)
    recorded = recorded_updates(tmp_path)
    assert recorded is not None
    on_the_way, final = recorded
    assert [each.step for each in on_the_way] == [each.step for each in way]
    for ours, theirs in zip([*on_the_way, final], [*way, last], strict=True):
        assert torch.equal(ours.layers["0"].left, theirs.layers["0"].left)


def test_what_was_not_finished_is_not_recorded(tmp_path: Path) -> None:
    assert recorded_updates(tmp_path) is None
    (first,) = snapshots(1)
    save_snapshot(first, tmp_path / "step_0000000.safetensors")
    assert recorded_updates(tmp_path) is None


def test_a_damaged_file_is_one_line(tmp_path: Path) -> None:
    (first,) = snapshots(1)
    save_snapshot(first, tmp_path / FINAL)
    (tmp_path / "step_0000000.safetensors").write_bytes(b"torn")
    with pytest.raises(ModelFileError, match="cannot be read as updates"):
        recorded_updates(tmp_path)
