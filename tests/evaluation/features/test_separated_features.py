"""Features of networks with classes: a sample of every class, and a simplex of as many corners."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from rhm.analysis.collapse import collapse
from rhm.data import Catalog
from rhm.data.radiometry import Scaling
from rhm.evaluation.features.feature_moments import CellSampling, collect_features
from rhm.evaluation.features.inspection import images_to_inspect, inspect_model
from rhm.models.build import SegmentationModel
from rhm.models.building_classes import SEPARATIONS
from rhm.models.heads import classifier_rows
from rhm.models.spec import ModelSpec

SAMPLING = CellSampling(images=6, window_px=96, cells=200)


def built(separation: str) -> SegmentationModel:
    torch.manual_seed(0)
    scalings = {"uint8": Scaling("uint8", (0.0,) * 3, (255.0,) * 3)}
    return SegmentationModel(
        ModelSpec(
            "unet",
            "test_efficientnet",
            3,
            scalings=scalings,
            classes=SEPARATIONS[separation],
            head="cosine",
            sources=("birch_aerial",),
        )
    ).eval()


@pytest.mark.parametrize("separation", ["boundary", "contact"])
def test_the_last_features_are_compared_with_a_simplex_of_all_classes(
    catalog_path: Path, separation: str
) -> None:
    model, catalog = built(separation), Catalog.load(catalog_path)
    sampling = SAMPLING.of([model.spec])
    assert sampling.classes == SEPARATIONS[separation]
    images = images_to_inspect(catalog.select(domains=["birch_aerial"]), model.spec, split=None)
    found = inspect_model(model, images, sampling, name="model", stages=["decoder"])
    (stage,), (last,) = found.stages, found.last
    assert set(stage.cells) == set(SEPARATIONS[separation])
    moments = collect_features(model, images["birch_aerial"], sampling, names=["decoder"])
    classified = moments["decoder"].classified
    assert classified is not None
    lengths = classified.spreads / classified.counts + classified.means.square().sum(dim=1)
    np.testing.assert_allclose(lengths, 1.0, rtol=1e-4)  # a cosine head takes no others
    expected = collapse(classified, classifier_rows(model.network))
    assert last.nc1 == pytest.approx(expected.nc1)
    assert last.nc3 == pytest.approx(expected.nc3)
    assert stage.nc1 != pytest.approx(last.nc1, rel=0.01)
    assert last.nc2 == pytest.approx(expected.nc2)
    assert last.nc2 is not None
    assert last.nc2 > 0.01
    # Rows that are a simplex already are one here.
    rows = torch.eye(8)[: len(model.spec.classes)] - 1 / len(model.spec.classes) * torch.cat(
        [torch.ones(len(model.spec.classes)), torch.zeros(8 - len(model.spec.classes))]
    )
    features = moments["decoder"].moments
    padded = torch.zeros(len(rows), features.num_features)
    padded[:, :8] = rows
    assert collapse(features, padded).nc2 == pytest.approx(0.0, abs=1e-6)


def test_networks_with_different_classes_are_compared_by_building_and_background() -> None:
    specs = [built(name).spec for name in ("none", "contact")]
    assert SAMPLING.of(specs) == SAMPLING
    assert SAMPLING.of(specs[:1]).classes == ("background", "building")
    outlines = replace(SAMPLING, boundary_px=1.0)
    assert outlines.of(specs[1:]).classes == ("background", "interior", "boundary")
    assert np.all(np.array(SAMPLING.of(specs[1:]).classes) == np.array(SEPARATIONS["contact"]))
