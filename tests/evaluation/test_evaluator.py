"""Evaluation: counts equal torchmetrics', every score is in the file, examples are pictures."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import rasterio
import shapely
import torch
from torch import nn
from torchmetrics.classification import BinaryJaccardIndex

from rhm.colour.histogram import Histogram
from rhm.colour.shifts import SHIFTS
from rhm.data import Catalog
from rhm.data.labels import IGNORE
from rhm.data.radiometry import Scaling
from rhm.errors import CatalogError
from rhm.evaluation.evaluator import evaluate_model, picks_of
from rhm.evaluation.score_files import read_scores
from rhm.evaluation.scores import Scores, Shift
from rhm.evaluation.tile_scores import count, see, shifted
from rhm.inference.tiling.stream import Tiling
from rhm.models.build import SegmentationModel
from rhm.models.spec import ModelSpec
from rhm.training.metrics import boundary_iou

TILING = Tiling(tile=96, overlap=0)


class Bright(nn.Module):
    """Calls bright pixels building."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return 6.0 * images.mean(1, keepdim=True)


@pytest.fixture(scope="module")
def model() -> SegmentationModel:
    spec = ModelSpec(
        "unet",
        "tf_efficientnet_lite0",
        3,
        scalings={"uint8": Scaling("uint8", (0.0,) * 3, (255.0,) * 3)},
        sources=("alder_aerial",),
        source_histograms={"alder_aerial": [[1 / 256] * 256] * 3},
        method="none",
    )
    built = SegmentationModel(spec)
    built.network = Bright()
    return built.eval()


@pytest.fixture(scope="module")
def catalog(catalog_path: Path) -> Catalog:
    return Catalog.load(catalog_path)


def test_pixel_iou_is_torchmetrics_with_an_ignore_mask(
    model: SegmentationModel, catalog: Catalog
) -> None:
    oracle = BinaryJaccardIndex(ignore_index=IGNORE)
    total = None
    rng = np.random.default_rng(0)
    for tile in catalog.select(domains=["alder_aerial"]).tiles:
        seen = see(model, tile, shift=None, tiling=TILING)
        seen.valid[rng.random(seen.valid.shape) < 0.1] = False
        counted = count(seen, tile, 0.5).pixels
        total = counted if total is None else total + counted
        target = np.where(seen.valid, seen.truth, IGNORE)
        oracle.update(torch.from_numpy(seen.probability), torch.from_numpy(target).long())
    assert total is not None
    assert 0 < total.iou < 1
    assert total.iou == pytest.approx(float(oracle.compute()), abs=1e-6)


@pytest.mark.parametrize("family", sorted(SHIFTS))
def test_a_shift_changes_the_picture_and_not_the_truth(
    model: SegmentationModel, catalog: Catalog, family: str
) -> None:
    tile = catalog.select(domains=["alder_aerial"]).tiles[0]
    plain = see(model, tile, shift=None, tiling=TILING)
    moved = see(model, tile, shift=Shift(family, 1), tiling=TILING)
    again = see(model, tile, shift=Shift(family, 1), tiling=TILING)
    other = see(model, tile, shift=Shift(family, 2), tiling=TILING)
    np.testing.assert_array_equal(plain.truth, moved.truth)
    np.testing.assert_array_equal(moved.pixels, again.pixels)
    assert not np.array_equal(plain.pixels, moved.pixels)
    assert not np.array_equal(other.pixels, moved.pixels)


@pytest.mark.parametrize("standardize", ["equalize", "gray-world"])
def test_a_standardising_model_is_shown_the_standard_of_what_the_shift_left(
    model: SegmentationModel, catalog: Catalog, standardize: str
) -> None:
    spec = replace(model.spec, standardize=standardize)
    standard = SegmentationModel(spec)
    standard.network = Bright()
    tile = catalog.select(domains=["alder_aerial"]).tiles[0]
    shift = Shift("gamma", 1)
    seen = see(standard, tile, shift=shift, tiling=TILING)
    with tile.open() as raster:
        pixels, valid = shifted(shift, tile.name, raster.read())
    table = spec.input_table(spec.scalings["uint8"], Histogram.of(pixels, valid=valid))
    logits = 6.0 * table.apply(pixels).mean(axis=-1)
    np.testing.assert_allclose(seen.probability, 1.0 / (1.0 + np.exp(-logits)), atol=1e-5)
    plain = see(model, tile, shift=shift, tiling=TILING)
    assert np.abs(plain.probability - seen.probability).max() > 0.02
    np.testing.assert_array_equal(plain.pixels, seen.pixels)


def test_views_of_a_network_that_sees_single_pixels_are_all_alike(
    model: SegmentationModel, catalog: Catalog, tmp_path: Path
) -> None:
    tile = catalog.select(domains=["birch_aerial"]).tiles[0]
    plain, averaged = (
        see(model, tile, shift=None, tiling=replace(TILING, views=views)) for views in (False, True)
    )
    np.testing.assert_allclose(plain.probability, averaged.probability, atol=1e-6)
    for views in (False, True):
        scores = evaluate_model(
            model,
            catalog,
            tmp_path,
            name="run",
            domains=["birch_aerial"],
            tiling=replace(TILING, views=views),
        )
        assert scores.views is views


def test_perfect_prediction_scores_one(model: SegmentationModel, catalog: Catalog) -> None:
    tile = catalog.select(domains=["birch_aerial"]).tiles[0]
    seen = see(model, tile, shift=None, tiling=TILING)
    perfect = replace(
        seen,
        probability=seen.truth.astype(np.float32),
        objects=seen.true_objects,
        confidences=np.ones(len(seen.true_objects)),
    )
    scores = count(perfect, tile, 0.5)
    assert scores.pixels.iou == scores.objects.f1 == scores.boundaries[0].iou == 1.0
    assert scores.objects.true_positives > 0
    assert scores.calibration.expected_calibration_error == 0.0


@pytest.mark.parametrize(
    ("gsd_m", "widths_px"), [(0.3, (3, 10)), (1.0, (1, 3)), (5.0, (1, 1)), (None, (1, 3))]
)
def test_boundary_widths_are_metres_on_the_ground(
    model: SegmentationModel, catalog: Catalog, gsd_m: float | None, widths_px: tuple[int, ...]
) -> None:
    tile = catalog.select(domains=["birch_aerial"]).tiles[0]
    truth = np.zeros((60, 60), np.uint8)
    truth[10:50, 10:50] = 1
    moved = np.roll(truth, 2, axis=1).astype(np.float32)
    seen = replace(
        see(model, tile, shift=None, tiling=TILING),
        pixels=np.zeros((60, 60, 3), np.uint8),
        valid=np.ones((60, 60), bool),
        gsd_m=gsd_m,
        truth=truth,
        probability=moved,
    )
    found = count(seen, tile, 0.5).boundaries
    expected = tuple(boundary_iou(truth == 1, moved > 0, None, width) for width in widths_px)
    assert found == expected


@pytest.fixture(scope="module")
def result(
    model: SegmentationModel, catalog: Catalog, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Scores]:
    folder = tmp_path_factory.mktemp("evaluation")
    scores = evaluate_model(
        model, catalog, folder, name="run", shifts=[Shift("gamma", 5)], tiling=TILING
    )
    return folder, scores


def test_every_domain_is_scored_and_the_source_under_the_shift_too(
    result: tuple[Path, Scores], catalog: Catalog
) -> None:
    folder, scores = result
    assert read_scores(folder) == scores
    names = [domain.name for domain in scores.domains]
    assert names == [
        "alder_aerial",
        "alder_aerial (gamma shift)",
        "alder_satellite",
        "birch_aerial",
        "birch_satellite",
    ]
    roles = [domain.role for domain in scores.domains]
    assert roles == ["source", *["target"] * 4]
    test_images = len(catalog.select(domains=["alder_aerial"], split="test"))
    assert scores.domains[0].images == test_images
    for domain in scores.domains:
        assert domain.histogram is not None
        assert np.sum(domain.histogram, axis=1) == pytest.approx(1.0, abs=1e-3)
        assert len(domain.distance or ()) == 3
        assert sum(b.count for b in domain.calibration.bins) == 96 * 96 * domain.images


def test_examples_are_pictures_with_outlines(result: tuple[Path, Scores]) -> None:
    folder, scores = result
    for domain in scores.domains:
        assert domain.examples
        for example in domain.examples:
            picture = cv2.imread(str(folder / example.image))
            assert picture is not None
            assert picture.shape == (example.height, example.width, 3)
            assert example.truth
            points = np.concatenate([np.array(ring) for rings in example.truth for ring in rings])
            assert points.min() >= 0
            assert points.max() <= 96


def test_evaluations_add_up_and_only_their_own_pictures_are_replaced(
    model: SegmentationModel, catalog: Catalog, tmp_path: Path
) -> None:
    precious = tmp_path / "examples" / "precious.png"
    precious.parent.mkdir()
    precious.write_text("not ours")

    def evaluated(domain: str, path: str = "a.parquet", **options: Any) -> list[tuple[str, str]]:
        found = evaluate_model(
            options.pop("model", model),
            catalog,
            tmp_path,
            name="run",
            domains=[domain],
            catalog_path=path,
            tiling=TILING,
            **options,
        )
        assert {each.catalog for each in found.domains} == {path}
        scores = read_scores(tmp_path)
        pictures = [each.image for domain in scores.domains for each in domain.examples]
        assert len(set(pictures)) == len(pictures)
        there = {str(path.relative_to(tmp_path)) for path in tmp_path.glob("examples/*")}
        assert there == {*pictures, "examples/precious.png"}
        assert scores.domains[-len(found.domains) :] == found.domains
        return [(each.name, each.catalog) for each in scores.domains]

    alder, birch = ("alder_aerial", "a.parquet"), ("birch_aerial", "a.parquet")
    shifted = ("alder_aerial (gamma shift)", "a.parquet")
    assert evaluated(alder[0]) == [alder]
    assert evaluated(birch[0]) == [alder, birch]
    assert evaluated(alder[0], shifts=[Shift("gamma", 1)]) == [birch, alder, shifted]
    # Its own entry is replaced, and the shifted one is another.
    assert evaluated(alder[0]) == [birch, shifted, alder]
    elsewhere = ("alder_aerial", "b.parquet")
    assert evaluated(*elsewhere) == [birch, shifted, alder, elsewhere]
    other = SegmentationModel(replace(model.spec, encoder="test_efficientnet")).eval()
    assert evaluated(birch[0], model=other) == [birch]


def test_buildings_where_the_image_has_no_data_are_not_asked_for(
    model: SegmentationModel, catalog: Catalog, tmp_path: Path
) -> None:
    tile = catalog.select(domains=["alder_aerial"]).tiles[0]
    with rasterio.open(tile.image) as source:
        profile, pixels = source.profile, source.read()
    pixels[:, :, :48] = 0
    with rasterio.open(tmp_path / "half.tif", "w", **(profile | {"nodata": 0})) as target:
        target.write(pixels)
    half = replace(tile, image=tmp_path / "half.tif")
    whole = see(model, tile, shift=None, tiling=TILING)
    seen = see(model, half, shift=None, tiling=TILING)
    assert not seen.valid[:, :48].any()
    kept, blank = seen.true_objects, shapely.box(0, 0, 48, 96)
    for polygon in whole.true_objects:
        hidden, shown = polygon.intersection(blank).area / polygon.area, polygon - blank
        assert shapely.equals(kept, shown).any() == (hidden < 0.5)
    assert 0 < len(kept) < len(whole.true_objects)


def test_picks_show_the_same_images_again(
    result: tuple[Path, Scores],
    model: SegmentationModel,
    catalog: Catalog,
    tmp_path: Path,
) -> None:
    _, scores = result
    wanted = {
        "birch_aerial": {
            "best": catalog.select(domains=["birch_aerial"], split="test").tiles[0].name
        }
    }
    again = evaluate_model(
        model,
        catalog,
        tmp_path,
        name="run",
        domains=["birch_aerial"],
        tiling=TILING,
        picks=wanted,
    )
    assert picks_of(again) == wanted
    assert set(picks_of(scores)) == {domain.name for domain in scores.domains}


def test_what_cannot_be_evaluated_is_said(
    model: SegmentationModel, catalog: Catalog, tmp_path: Path
) -> None:
    bare = Catalog(catalog.frame.assign(label=""))
    with pytest.raises(CatalogError, match="no labelled image"):
        evaluate_model(model, bare, tmp_path, name="run")
    with pytest.raises(CatalogError, match="no domain 'atlantis'"):
        evaluate_model(model, catalog, tmp_path, name="run", domains=["atlantis"])
    assert list(tmp_path.iterdir()) == []
