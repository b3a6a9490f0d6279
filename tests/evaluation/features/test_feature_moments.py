"""Features of a model by stage and class; laws: seeds decide, and stages do not see each other."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rhm.analysis.moments import ClassMoments
from rhm.data import Catalog
from rhm.data.catalog import Tile
from rhm.data.radiometry import Scaling
from rhm.errors import AnalysisError
from rhm.evaluation.features.feature_moments import CellSampling, StageFeatures, collect_features
from rhm.models.build import SegmentationModel
from rhm.models.spec import ModelSpec

SAMPLING = CellSampling(images=6, window_px=96, cells=50, ground_px=2)
STAGES = ("encoder[1]", "encoder[2]", "decoder")


@pytest.fixture(scope="module")
def model() -> SegmentationModel:
    torch.manual_seed(0)
    scalings = {"uint8": Scaling("uint8", (0.0,) * 3, (255.0,) * 3)}
    return SegmentationModel(ModelSpec("unet", "test_efficientnet", 3, scalings=scalings)).eval()


@pytest.fixture(scope="module")
def tiles(catalog_path: Path) -> list[Tile]:
    return Catalog.load(catalog_path).select(domains=["alder_aerial"]).tiles


def collected(
    model: SegmentationModel, tiles: list[Tile], names: Any = STAGES, **changes: Any
) -> dict[str, StageFeatures]:
    return collect_features(model, tiles, replace(SAMPLING, **changes), names=names)


def test_every_stage_knows_its_size(model: SegmentationModel, tiles: list[Tile]) -> None:
    found = collected(model, tiles)
    assert tuple(found) == STAGES
    assert [each.stride for each in found.values()] == [2, 4, 1]
    for each in found.values():
        assert each.fitted.num_features == each.channels
        features, labels = each.sample()
        assert features.shape == (len(labels), each.channels)


def test_a_stages_cells_do_not_depend_on_the_other_stages(
    model: SegmentationModel, tiles: list[Tile]
) -> None:
    together = collected(model, tiles)
    for name in STAGES:
        alone = collected(model, tiles, [name])[name]
        assert torch.equal(alone.fitted.means, together[name].fitted.means)
        assert torch.equal(alone.sample()[1], together[name].sample()[1])


def test_at_most_so_many_cells_of_so_many_images_are_taken(
    model: SegmentationModel, tiles: list[Tile]
) -> None:
    seen: list[None] = []
    sampling = replace(SAMPLING, images=3, cells=7)
    found = collect_features(
        model, tiles, sampling, names=["encoder[1]"], on_image=lambda: seen.append(None)
    )["encoder[1]"]
    assert len(seen) == 3
    assert found.moments.counts.max() <= 3 * 7


def test_the_moments_of_all_are_those_of_both_halves() -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(40, 3, generator=generator, dtype=torch.float64)
    labels = torch.arange(40) % 2
    halves = ClassMoments(2, 3), ClassMoments(2, 3)
    for half, part in zip(halves, (slice(0, 15), slice(15, 40)), strict=True):
        half.update(features[part], labels[part])
    whole = ClassMoments(2, 3)
    whole.update(features, labels)
    stage = StageFeatures(*halves, channels=3, stride=1)
    np.testing.assert_allclose(stage.moments.means, whole.means)
    np.testing.assert_allclose(stage.moments.spreads, whole.spreads)
    assert stage.fitted.samples == 15


def test_a_stage_that_is_not_there_is_told(model: SegmentationModel, tiles: list[Tile]) -> None:
    with pytest.raises(AnalysisError, match="no layer 'neck'"):
        collected(model, tiles, ["neck"])


def test_a_feature_that_is_no_number_is_told_with_its_image(tiles: list[Tile]) -> None:
    spec = ModelSpec("unet", "test_efficientnet", 3)
    broken = SegmentationModel(spec).eval()
    next(broken.encoder.parameters()).data.fill_(torch.nan)
    with pytest.raises(AnalysisError, match=r"encoder\[1\] on .*\.tif"):
        collected(broken, tiles, ["encoder[1]"])


@pytest.mark.parametrize(
    "values",
    [
        {"images": 1},
        {"cells": 0},
        {"window_px": 100},
        {"window_px": 32},
        {"purity": 0.5},
        {"boundary_px": -1.0},
        {"ground_px": 3},
        {"ground_px": 64},
    ],
)
def test_impossible_samples_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(values))):
        CellSampling(**values)


def test_outlines_make_a_third_class() -> None:
    assert CellSampling().classes == ("background", "building")
    assert CellSampling(boundary_px=2.0).classes == ("background", "interior", "boundary")
