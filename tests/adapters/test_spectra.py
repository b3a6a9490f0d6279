"""Spectra of updates and the angles to their end, against dense singular values."""

import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from rhm.adapters import DeepLoRA, LoRA, attach
from rhm.adapters.attach import updates
from rhm.adapters.lowrank import Adapter
from rhm.adapters.spectra import (
    LayerFactors,
    UpdateSnapshot,
    angles_to_final,
    load_snapshot,
    save_snapshot,
    spectra,
    take_snapshot,
)
from rhm.errors import ModelFileError


def orthonormal(rows: int, columns: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    basis: Tensor = torch.linalg.qr(torch.randn(rows, columns, generator=generator))[0]
    return basis


def snapshot(step: int, left: Tensor, values: list[float], right: Tensor) -> UpdateSnapshot:
    return UpdateSnapshot(step, {"a": LayerFactors(left * torch.tensor(values), right.T, 2.0)})


def test_a_known_spectrum_is_found() -> None:
    taken = snapshot(0, orthonormal(9, 4, 0), [3.0, 2.0, 0.5, 0.0], orthonormal(6, 4, 1))
    (found,) = spectra(taken)
    assert found.singular_values == pytest.approx([3.0, 2.0, 0.5, 0.0], abs=1e-6)
    assert found.relative_norm == pytest.approx(math.sqrt(13.25) / 2.0)
    assert found.stable_rank == pytest.approx(13.25 / 9.0)
    assert found.effective_rank == 2  # 13 of 13.25 is more than 95 %
    assert (found.rows, found.columns) == (9, 6)


@pytest.mark.parametrize("adapter", [LoRA(3, alpha=6.0), DeepLoRA(4, init_scale=0.5)])
def test_spectra_are_those_of_the_dense_updates(adapter: Adapter, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 4, 3, groups=2), nn.Linear(6, 5))
    weights = {
        name: layer.weight.detach().clone()
        for name, layer in model.named_children()
        if isinstance(layer, nn.Conv2d | nn.Linear)
    }
    attach(model, adapter)
    with torch.no_grad():
        for _, update in updates(model):
            for parameter in update.parameters():
                parameter.add_(torch.randn_like(parameter), alpha=0.3)
    path = tmp_path / "step.safetensors"
    save_snapshot(take_snapshot(model, 7), path)
    again = load_snapshot(path)
    assert again.step == 7
    dense = {name: update.update().detach() for name, update in updates(model)}
    found = {each.layer: each for each in spectra(again)}
    assert set(found) == set(dense) == set(weights)
    for name, each in found.items():
        values = torch.linalg.svdvals(dense[name])[: len(each.singular_values)]
        assert torch.allclose(torch.tensor(each.singular_values), values, atol=1e-5)
        ratio = torch.linalg.norm(dense[name]) / torch.linalg.norm(weights[name])
        assert each.relative_norm == pytest.approx(float(ratio), rel=1e-5)


def test_angles_fall_to_zero_at_the_end() -> None:
    basis, right = orthonormal(9, 9, 0), orthonormal(7, 4, 1)
    left, other = basis[:, :4], basis[:, 5:]
    values = [3.0, 2.0, 0.1, 0.0]
    final = snapshot(3, left, values, right)
    turned = left.clone()
    turned[:, 0] = math.cos(0.5) * left[:, 0] + math.sin(0.5) * other[:, 3]
    on_the_way = [
        snapshot(0, left, [0.0] * 4, right),
        snapshot(1, other, values, right),
        snapshot(2, turned, values, right),
        final,
    ]
    (angles,) = angles_to_final(on_the_way, final).values()
    assert angles[0] is None
    assert angles[1] == pytest.approx(90.0, abs=1e-3)
    assert angles[2] == pytest.approx(math.degrees(0.5), abs=1e-2)
    assert angles[3] == pytest.approx(0.0, abs=1e-5)


def test_directions_are_compared_on_both_sides_and_only_where_they_lead() -> None:
    left, right = orthonormal(9, 4, 0), orthonormal(7, 7, 1)
    values = [3.0, 0.1, 0.0, 0.0]
    final = snapshot(3, left, values, right[:, :4])
    turned = right[:, :4].clone()
    turned[:, 0] = math.cos(0.7) * right[:, 0] + math.sin(0.7) * right[:, 6]
    on_the_way = [
        snapshot(0, left, [1e-9] * 4, right[:, :4]),  # as Deep LoRA begins
        snapshot(1, left, values, turned),
    ]
    (angles,) = angles_to_final(on_the_way, final).values()
    assert angles[0] is None
    assert angles[1] == pytest.approx(math.degrees(0.7), abs=1e-2)
    other = snapshot(1, orthonormal(8, 4, 0), values, right[:, :4])
    with pytest.raises(ModelFileError, match="do not belong to the layers"):
        angles_to_final([other], final)


def test_nothing_learned_is_no_direction() -> None:
    zero = snapshot(0, orthonormal(5, 2, 0), [0.0, 0.0], orthonormal(5, 2, 1))
    (found,) = spectra(zero)
    assert (found.effective_rank, found.stable_rank, found.relative_norm) == (0, 0.0, 0.0)
    assert angles_to_final([zero], zero) == {}


@pytest.mark.parametrize(
    "tensors",
    [
        {"a/left": torch.ones(4, 2), "a/right": torch.ones(3, 4), "a/weight_norm": torch.ones(())},
        {"a/left": torch.ones(2, 3), "a/right": torch.ones(3, 2), "a/weight_norm": torch.ones(())},
        {"a/left": torch.ones(4, 1), "a/right": torch.ones(1, 4), "a/weight_norm": torch.ones(3)},
        {
            "a/left": torch.full((4, 1), torch.nan),
            "a/right": torch.ones(1, 4),
            "a/weight_norm": torch.ones(()),
        },
        {
            "a/left": torch.full((4, 1), 1e200, dtype=torch.float64),
            "a/right": torch.ones(1, 4),
            "a/weight_norm": torch.ones(()),
        },
        {"a/left": torch.ones(4, 2)},
        {},
    ],
)
def test_what_is_no_snapshot_is_refused(tmp_path: Path, tensors: dict[str, Tensor]) -> None:
    path = tmp_path / "x.safetensors"
    save_file(tensors, path, metadata={"step": "1"})
    with pytest.raises(ModelFileError, match="cannot be read as updates"):
        load_snapshot(path)
    good = {"a/left": torch.ones(4, 1), "a/right": torch.ones(1, 4)}
    good["a/weight_norm"] = torch.ones(())
    save_file(good, path, metadata={"step": "9" * 401})
    with pytest.raises(ModelFileError, match="cannot be read as updates"):
        load_snapshot(path)
