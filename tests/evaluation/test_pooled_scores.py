"""Scores of a domain. Oracle: the counts of its images, added by hand."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rhm.data.catalog import Catalog
from rhm.evaluation.pooled_scores import name_of, pooled_scores, shares
from rhm.evaluation.scores import Shift
from rhm.evaluation.tile_scores import count, see
from rhm.inference.tiling.stream import Tiling
from rhm.models.build import SegmentationModel


def test_counts_of_images_are_pooled_before_they_are_scored(
    bright: SegmentationModel, catalog_path: Path
) -> None:
    tiles = Catalog.load(catalog_path).select(domains=["alder_aerial"]).tiles[:3]
    tiling = Tiling(tile=96, overlap=0)
    scored = [count(see(bright, tile, shift=None, tiling=tiling), tile, 0.5) for tile in tiles]
    spec = replace(bright.spec, sources=("alder_aerial",))
    found = pooled_scores(spec, "alder_aerial", scored, None, seed=0)
    counts = [each.pixels for each in scored]
    right = sum(each.true_positives for each in counts)
    wrong = sum(each.false_positives + each.false_negatives for each in counts)
    assert found.pixel.iou.value == pytest.approx(right / (right + wrong))
    assert found.object.true_positives == sum(each.objects.true_positives for each in scored)
    assert sum(found.calibration.levels.pixels) == 3 * 96 * 96
    assert (found.name, found.role, found.images) == ("alder_aerial", "source", 3)
    assert (found.examples, found.catalog, found.created) == ((), "", "")
    shifted = pooled_scores(spec, "alder_aerial", scored, Shift("gamma", 0), seed=0)
    assert (shifted.name, shifted.role) == ("alder_aerial (gamma shift)", "target")


@pytest.mark.parametrize("known", [True, False])
def test_images_without_pixels_have_no_distance_and_no_score(
    bright: SegmentationModel, catalog_path: Path, known: bool
) -> None:
    tile = Catalog.load(catalog_path).select(domains=["alder_aerial"]).tiles[0]
    seen = see(bright, tile, shift=None, tiling=Tiling(tile=96, overlap=0))
    if not known:
        none = np.empty(0, dtype=object)
        blank: dict[str, Any] = {"true_objects": none, "objects": none, "confidences": np.empty(0)}
        seen = replace(seen, valid=np.zeros_like(seen.valid), **blank)
    histograms = {"town": [[1 / 256] * 256] * 3}
    spec = replace(bright.spec, sources=("town",), source_histograms=histograms)
    found = pooled_scores(spec, "city", [count(seen, tile, 0.5)], None, seed=0)
    assert found.distance is not None
    assert [each is not None for each in found.distance] == [known] * 3
    assert found.outline is not None
    assert (found.pixel.iou.value is not None) == known
    assert (found.outline.complexity_iou.value is not None) == known


def test_names_and_histograms_are_as_they_are_stored() -> None:
    assert name_of("town", None) == "town"
    assert name_of("town", Shift("hsv", 3)) == "town (hsv shift)"
    assert shares([[0.25, 0.75]]) == ((0.25, 0.75),)
