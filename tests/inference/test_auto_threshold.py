"""Thresholds by the model's own probabilities; oracle: the best of all thresholds, tried out."""

import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray

from rhm.errors import ConfigError
from rhm.inference import predict_raster
from rhm.inference.layers.vector_files import format_names
from rhm.inference.many_scenes import predict_scenes
from rhm.inference.polygons import PolygonConfig, polygonize
from rhm.inference.prediction_config import PredictionConfig
from rhm.models.expected_iou import ExpectedIoU
from tests.data.imagery import noise
from tests.inference.scenes import Bright, spec, write_scene
from tests.inference.test_resume import OPTIONS, Counting, files

AUTO = PolygonConfig(threshold="auto")


class Unsure(Bright):
    """Calls bright pixels building, without ever being sure."""

    def forward(self, images: Any) -> Any:
        return 0.3 * super().forward(images) - 0.4


def town(seed: int, *, level: int = 0, size: tuple[int, int] = (90, 130)) -> NDArray[np.uint8]:
    """A dark place with bright patches and a corner without data."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(1, 120, (*size, 3)).astype(np.uint8)
    for row, col in rng.integers(0, 70, (9, 2)):
        pixels[row : row + 14, col : col + 18] += np.uint8(90 + level)
    pixels[:20, :30] = 0
    return pixels


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    return write_scene(tmp_path / "x.tif", town(0), nodata=0)


def read(path: Path) -> NDArray[Any]:
    with rasterio.open(path) as raster:
        return np.asarray(raster.read(1))


def expected_by_trial(*probabilities: Path) -> float:
    """The highest expected IoU of any threshold between two bytes of probability."""
    scores = []
    for level in range(255):
        seen = ExpectedIoU((level - 0.5) / 254)
        for path in probabilities:
            stored = read(path)
            seen.add(stored, stored >= 0)
        scores.append(seen.value or 0.0)
    return max(scores)


def at(threshold: float, *probabilities: Path) -> float:
    seen = ExpectedIoU(threshold)
    for path in probabilities:
        stored = read(path)
        seen.add(stored, stored >= 0)
    assert seen.value is not None
    return seen.value


@pytest.mark.parametrize("options", [{}, {"resample": True}, {"dtype": "uint8"}], ids=str)
def test_the_threshold_is_the_best_of_all_and_everything_follows_it(
    scene: Path, tmp_path: Path, options: dict[str, Any]
) -> None:
    model = Unsure(spec(threshold=0.9, gsd_m=0.8))
    found = predict_raster(model, scene, tmp_path / "auto", polygons=AUTO, **options)
    assert found.threshold < 0.5
    if "dtype" not in options:
        best = expected_by_trial(found.probability)
        assert at(found.threshold, found.probability) == pytest.approx(best, rel=1e-9)
    given = PolygonConfig(threshold=found.threshold)
    same = predict_raster(model, scene, tmp_path / "given", polygons=given, **options)
    for one, other in ((found.mask, same.mask), (found.probability, same.probability)):
        np.testing.assert_array_equal(read(one), read(other))
    assert found.count == same.count > 0
    with rasterio.open(found.mask) as mask:
        assert float(mask.tags()["RHM_THRESHOLD"]) == found.threshold
    # What the model thinks of itself still refers to its own threshold.
    assert found.expected_iou == same.expected_iou


@pytest.mark.parametrize("name", format_names())
@pytest.mark.parametrize("threshold", ["auto", "auto-all", "40%", 0.7])
def test_footprints_say_the_threshold_of_their_pixels(
    scene: Path, tmp_path: Path, name: str, threshold: float | str
) -> None:
    model, suffix = Unsure(spec()), f".{name}"
    config = PredictionConfig(suffix=suffix, polygons=PolygonConfig(threshold=threshold))
    for _ in range(2):  # the stamp is whole: the same prediction may replace it
        (result,) = predict_scenes(model, [str(scene)], tmp_path / "out", config)
        found = result.prediction
        assert found is not None
        told = f"threshold {found.threshold:.6g}, written by rhm"
        if name == "gpkg":
            with sqlite3.connect(found.buildings) as database:
                assert told in " ".join(map(str, database.iterdump()))
        else:
            assert told.encode() in found.buildings.read_bytes()


def test_a_finished_or_interrupted_prediction_is_resumed_to_the_last_byte(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = noise(290, 190)
    scene = write_scene(tmp_path / "x.tif", pixels)
    options = OPTIONS | {"polygons": AUTO}
    whole = predict_raster(Counting(), scene, tmp_path / "whole", **options)
    network = Counting()
    real = Counting.forward

    def doomed(self: Counting, images: Any) -> Any:
        if self.seen > 9:
            raise KeyboardInterrupt
        return real(self, images)

    with monkeypatch.context() as patch:
        patch.setattr(Counting, "forward", doomed)
        with pytest.raises(KeyboardInterrupt):
            predict_raster(network, scene, tmp_path / "broken", **options)
    resumed = predict_raster(Counting(), scene, tmp_path / "broken", resume=True, **options)
    assert files(tmp_path / "broken") == files(tmp_path / "whole")
    assert resumed.threshold == whole.threshold
    fresh = Counting()
    again = predict_raster(fresh, scene, tmp_path / "broken", resume=True, **options)
    assert (fresh.seen, again.notes) == (0, ("the results already existed",))
    assert again.threshold == whole.threshold
    # From the probabilities of a prediction with a given threshold, too.
    fixed = OPTIONS | {"polygons": PolygonConfig(threshold=0.7)}
    predict_raster(Counting(), scene, tmp_path / "other", **fixed)
    late = Counting()
    predict_raster(late, scene, tmp_path / "other", resume=True, **options)
    assert late.seen == 0
    assert files(tmp_path / "other") == files(tmp_path / "whole")


@pytest.mark.parametrize("pixels", [0, 20, 90], ids=["nothing", "dark", "dim"])
def test_where_hardly_a_building_is_expected_the_threshold_of_the_model_stays(
    tmp_path: Path, pixels: int
) -> None:
    values = np.full((70, 70, 3), pixels, np.uint8)
    values[3:6, 3:6] = pixels + pixels // 4  # a little more likely than the rest
    scene = write_scene(tmp_path / "x.tif", values, nodata=0)
    for threshold in ("auto", "auto-all"):
        polygons = PolygonConfig(threshold=threshold)
        config = PredictionConfig(polygons=polygons)
        model = Bright(spec(threshold=0.3))
        (result,) = predict_scenes(model, [str(scene)], tmp_path / threshold, config)
        found = result.prediction
        assert found is not None
        assert (found.threshold, found.count) == (0.3, 0)
        assert "too few buildings to choose a threshold by" in " ".join(found.notes)


def test_all_scenes_together_have_one_threshold(tmp_path: Path) -> None:
    scenes = [
        str(write_scene(tmp_path / f"{name}.tif", town(seed, level=60 * seed), nodata=0))
        for seed, name in enumerate(("north", "middle", "south"))
    ]
    model = Unsure(spec(threshold=0.9))

    def run(folder: str, threshold: float | str, **options: Any) -> list[float]:
        config = PredictionConfig(polygons=PolygonConfig(threshold=threshold), **options)
        results = predict_scenes(model, [*scenes, "nowhere.tif"], tmp_path / folder, config)
        assert "nowhere.tif" in results[-1].failure
        assert all(each.prediction and not each.prediction.notes for each in results[:-1])
        return [each.prediction.threshold for each in results if each.prediction]

    each, together = run("auto", "auto"), run("all", "auto-all")
    assert len(set(each)) == 3
    (common,) = set(together)
    assert min(each) < common < max(each)
    paths = sorted((tmp_path / "all").glob("*_probability.tif"))
    assert at(common, *paths) == pytest.approx(expected_by_trial(*paths), rel=1e-9)
    run("given", common)
    assert files(tmp_path / "all") == files(tmp_path / "given")


def test_what_existed_is_what_was_not_made_again(scene: Path, tmp_path: Path) -> None:
    """With one threshold for all scenes, the mask and footprints always are."""
    later = str(write_scene(tmp_path / "later.tif", town(1), nodata=0))

    def run(threshold: str, *scenes: str) -> list[tuple[str, ...]]:
        config = PredictionConfig(polygons=PolygonConfig(threshold=threshold), resume=True)
        results = predict_scenes(Unsure(spec()), scenes, tmp_path / "out", config)
        return [each.prediction.notes for each in results if each.prediction]

    probabilities = ("the probabilities already existed",)
    assert run("auto", str(scene)) == [()]
    assert run("auto", str(scene)) == [("the results already existed",)]
    assert run("auto-all", str(scene), later) == [probabilities, ()]
    for threshold in ("auto-all", "40%"):
        assert run(threshold, str(scene), later) == [probabilities, probabilities]


@pytest.mark.parametrize("threshold", ["auto-all", "40%"])
def test_a_scene_without_buildings_has_the_threshold_of_all(tmp_path: Path, threshold: str) -> None:
    dark = np.full((70, 70, 3), 20, np.uint8)
    scenes = [
        str(write_scene(tmp_path / "town.tif", town(0, level=60), nodata=0)),
        str(write_scene(tmp_path / "dark.tif", dark, nodata=0)),
    ]
    config = PredictionConfig(polygons=PolygonConfig(threshold=threshold))
    found = predict_scenes(Unsure(spec(threshold=0.9)), scenes, tmp_path / "out", config)
    predictions = [each.prediction for each in found if each.prediction]
    assert len({each.threshold for each in predictions}) == 1
    assert predictions[0].threshold < 0.9
    assert not [note for each in predictions for note in each.notes if "too few" in note]


def test_where_all_scenes_imply_too_little_they_share_the_threshold_of_the_model(
    tmp_path: Path,
) -> None:
    dim = np.full((900, 900, 3), 90, np.uint8)
    scenes = [
        str(write_scene(tmp_path / "town.tif", town(0, level=60), nodata=0)),
        str(write_scene(tmp_path / "dim.tif", dim, nodata=0)),
    ]
    config = PredictionConfig(polygons=PolygonConfig(threshold="auto-all"))
    found = predict_scenes(Unsure(spec(threshold=0.45)), scenes, tmp_path / "out", config)
    predictions = [each.prediction for each in found if each.prediction]
    assert [each.threshold for each in predictions] == [0.45, 0.45]
    assert all("too few buildings" in " ".join(each.notes) for each in predictions)


@pytest.mark.parametrize("share", [0.05, 0.4, 0.93])
def test_a_share_of_all_scenes_together_is_building(tmp_path: Path, share: float) -> None:
    scenes = [
        str(write_scene(tmp_path / f"{name}.tif", town(seed, level=60 * seed), nodata=0))
        for seed, name in enumerate(("north", "middle", "south"))
    ]
    polygons = PolygonConfig(threshold=f"{100 * share:g}%")
    config = PredictionConfig(polygons=polygons)
    results = predict_scenes(Unsure(spec()), scenes, tmp_path / "share", config)
    found = [each.prediction for each in results if each.prediction]
    assert len({each.threshold for each in found}) == 1
    masks = np.concatenate([read(each.mask).ravel() for each in found])
    shares = [np.mean(read(each.mask)[read(each.mask) != 255]) for each in found]
    # As near as the levels of bytes allow, over all scenes and in none alone.
    assert masks[masks != 255].mean() == pytest.approx(share, abs=0.02)
    assert max(shares) - min(shares) > 0.01
    alone = predict_raster(Unsure(spec()), scenes[0], tmp_path / "alone", polygons=polygons)
    mask = read(alone.mask)
    assert mask[mask != 255].mean() == pytest.approx(share, abs=0.02)


def test_a_raster_of_probabilities_needs_a_number(scene: Path, tmp_path: Path) -> None:
    found = predict_raster(Bright(spec()), scene, tmp_path / "out")
    with pytest.raises(ConfigError, match="give a number"):
        polygonize(found.probability, threshold="auto")
    with pytest.raises(ConfigError, match="a number between 0 and 1, auto, auto-all or a share"):
        PolygonConfig(threshold="best")
