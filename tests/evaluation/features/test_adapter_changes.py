"""What an adaptation changed; oracle: updates of a known size and rank."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rhm.adapters.spectra import LayerFactors, UpdateSnapshot, UpdateSpectrum, save_snapshot
from rhm.evaluation.features.adapter_changes import Adaptation, inspect_adaptation
from rhm.training.callbacks.update_recorder import FINAL

CONFIG = "name: adapted\ndata: {{catalog: c.parquet}}\nadapter: {{base: {base}, method: lora}}\n"


def layer(size: float, rank: int, *, seed: int) -> LayerFactors:
    """An update of orthogonal directions, all of one size, of a weight of norm 1."""
    generator = torch.Generator().manual_seed(seed)
    left, right = (
        torch.linalg.qr(torch.randn(8, 3, generator=generator))[0][:, :3] for _ in range(2)
    )
    scale = torch.tensor([size] * rank + [0.0] * (3 - rank))
    return LayerFactors(left * scale, right.T, 1.0)


def test_layers_come_by_their_change_and_angles_end_at_zero(tmp_path: Path) -> None:
    updates = tmp_path / "updates"
    updates.mkdir()
    (tmp_path / "config.yaml").write_text(CONFIG.format(base=tmp_path / "base"))
    small, large = layer(0.1, 1, seed=1), layer(0.5, 2, seed=2)
    nothing = layer(0.0, 0, seed=3), layer(0.0, 0, seed=4)
    for step, layers in ((0, nothing), (10, (small, layer(0.5, 2, seed=5)))):
        snapshot = UpdateSnapshot(step, dict(zip(("a", "b"), layers, strict=True)))
        save_snapshot(snapshot, updates / f"step_{step:07d}.safetensors")
    save_snapshot(UpdateSnapshot(20, {"a": small, "b": large}), updates / FINAL)
    found = inspect_adaptation(tmp_path, "city")
    assert found is not None
    assert (found.model, found.method, found.steps) == ("city", "lora", (0, 10))
    assert [each.layer for each in found.layers] == ["b", "a"]
    norms = [each.relative_norm for each in found.layers]
    np.testing.assert_allclose(norms, [0.5 * np.sqrt(2), 0.1], rtol=1e-5)
    assert (found.median_rank, found.largest_rank) == (1.5, 3)
    assert found.angles["a"][0] is None
    assert found.angles["a"][1] == pytest.approx(0.0, abs=1e-2)
    away = found.angles["b"][1]
    assert away is not None
    assert away > 5.0
    np.testing.assert_allclose(found.spectrum(0.5), [1.0, 0.5, 0.0], atol=1e-6)
    assert found.angle(1.0) == (None, away)


def test_what_was_not_adapted_has_nothing_to_show(tmp_path: Path) -> None:
    assert inspect_adaptation(tmp_path, "plain") is None


def spectrum_of(name: str, values: list[float]) -> UpdateSpectrum:
    ordered = tuple(sorted(values, reverse=True))
    return UpdateSpectrum(name, 8, 8, ordered, 0.1, 1, 1.0)


@given(
    st.lists(st.lists(st.floats(0.01, 10.0), min_size=1, max_size=4), min_size=1, max_size=5),
    st.floats(0.0, 1.0),
)
def test_a_spectrum_falls_from_one_whatever_the_quantile(
    values: list[list[float]], quantile: float
) -> None:
    layers = tuple(spectrum_of(str(number), each) for number, each in enumerate(values))
    adaptation = Adaptation("m", "lora", (0,), layers, {})
    found = adaptation.spectrum(quantile)
    assert len(found) == adaptation.largest_rank == max(map(len, values))
    assert found[0] == pytest.approx(1.0)
    assert max(found) <= 1.0 + 1e-12
    # Of the directions that every layer has, each is no larger than the one before.
    common = found[: min(map(len, values))]
    assert list(common) == sorted(common, reverse=True)
