"""Many scenes; laws: results come in the order asked for, and one failure is one failure."""

import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import geopandas
import numpy as np
import pytest
import rasterio
import shapely
import torch
from torch import Tensor, nn

from rhm.errors import OutputError, RhmError
from rhm.inference.many_scenes import SceneResult, predict_scenes, samples_of_scenes
from rhm.inference.plan import plan_prediction
from rhm.inference.prediction_config import PredictionConfig, read_area
from rhm.inference.runtime.identity import identity_of
from rhm.inference.scenes import predict_scene
from rhm.inference.tiling.strips import Strip, Task
from tests.data.imagery import HALF_METRE, UTM, noise, write_raster
from tests.inference.networks import built
from tests.inference.scenes import spec

CONFIG = PredictionConfig(tile=64, overlap=16)


class Half(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return torch.zeros_like(images[:, :1])


@pytest.fixture
def scenes(tmp_path: Path) -> list[str]:
    """Five scenes, of which the second is no raster."""
    paths = [write_raster(tmp_path / f"{name}.tif", noise(70, 40)) for name in "abcde"]
    paths[1].write_text("not a raster")
    return [str(path) for path in paths]


def test_a_network_that_cannot_be_identified_fails_scene_by_scene(
    scenes: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(network: object) -> str | None:
        raise ZeroDivisionError("nobody thought of this")

    monkeypatch.setattr("rhm.inference.runtime.identity.identity_of", failing)
    results = predict_scenes(Half(), scenes, tmp_path / "out", CONFIG)
    assert all(isinstance(result.error, ZeroDivisionError) for result in results)


def test_the_network_is_identified_once_for_all_scenes(
    scenes: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[object] = []

    def counting(network: object) -> str | None:
        seen.append(network)
        return identity_of(network)  # type: ignore[arg-type]

    monkeypatch.setattr("rhm.inference.runtime.identity.identity_of", counting)
    results = predict_scenes(Half(), scenes, tmp_path / "out", CONFIG)
    assert sum(result.prediction is not None for result in results) == 4
    assert len(seen) == 1
    again = predict_scene(Half(), scenes[0], tmp_path / "out", replace(CONFIG, resume=True))
    assert "the results already existed" in again.notes


@pytest.mark.parametrize("side_by_side", [1, 3])
def test_a_scene_that_fails_leaves_the_others(
    scenes: list[str], tmp_path: Path, side_by_side: int
) -> None:
    seen: list[SceneResult] = []
    pixels: list[int] = []
    lock = threading.Lock()

    def count(done: int) -> None:
        with lock:
            pixels.append(done)

    results = predict_scenes(
        Half(),
        scenes,
        tmp_path / "out",
        CONFIG,
        side_by_side=side_by_side,
        on_progress=count,
        on_result=seen.append,
    )
    assert [result.scene for result in results] == scenes
    assert [result.error is not None for result in results] == [False, True, False, False, False]
    assert [result.prediction is None for result in results] == [False, True, False, False, False]
    assert "b.tif" in str(results[1].error)
    assert sorted(each.scene for each in seen) == scenes
    if side_by_side == 1:
        assert seen == results
    assert sum(pixels) == 4 * 70 * 40
    assert len(list((tmp_path / "out").iterdir())) == 4 * 3


class Failing(Half):
    """A network with a defect that shows for bright scenes."""

    def forward(self, images: Tensor) -> Tensor:
        if images.amax() > 0.9:
            raise ZeroDivisionError("a defect\nof two lines")
        return super().forward(images)


@pytest.mark.parametrize("side_by_side", [1, 3])
def test_a_defect_is_the_failure_of_its_scene(tmp_path: Path, side_by_side: int) -> None:
    scenes = []
    for name, value in (("a", 20), ("b", 250), ("c", 30)):
        pixels = np.full((70, 40, 3), value, np.uint8)
        scenes.append(str(write_raster(tmp_path / f"{name}.tif", pixels)))
    model = Failing()
    model.spec = spec()  # type: ignore[assignment]
    results = predict_scenes(model, scenes, tmp_path, CONFIG, side_by_side=side_by_side)
    assert [result.prediction is None for result in results] == [False, True, False]
    assert isinstance(results[1].error, ZeroDivisionError)
    told = f"{scenes[1]}: ZeroDivisionError: a defect of two lines (a defect of rhm)"
    assert results[1].failure == told
    assert results[0].failure == ""


ENGINEERING = (
    'ENGCRS["site",EDATUM["site datum"],CS[Cartesian,2],AXIS["(E)",east],AXIS["(N)",north],'
    'LENGTHUNIT["metre",1]]'
)


def test_every_odd_scene_is_one_line_and_one_failure(tmp_path: Path) -> None:
    complex_pixels = np.ones((70, 40, 1), np.complex64)
    scenes = [
        write_raster(tmp_path / "a.tif", noise(70, 40)),
        write_raster(tmp_path / "complex.tif", complex_pixels),
        write_raster(tmp_path / "complex_int.tif", complex_pixels.real.astype(np.int16)),
        write_raster(tmp_path / "site.tif", noise(70, 40), crs=ENGINEERING),
        write_raster(tmp_path / "z.tif", noise(70, 40)),
    ]
    with rasterio.open(
        scenes[2],
        "w",
        driver="GTiff",
        width=40,
        height=70,
        count=1,
        dtype="complex_int16",
        transform=HALF_METRE,
    ):
        pass
    names = [str(scene) for scene in scenes]
    config = replace(CONFIG, suffix=".geojson")
    results = predict_scenes(Half(), names, tmp_path / "out", config)
    assert [result.failure != "" for result in results] == [False, True, True, True, False]
    assert "complex pixels (complex64)" in results[1].failure
    assert "complex pixels (complex_int16)" in results[2].failure
    assert "no coordinate reference system on Earth; choose another format" in results[3].failure
    assert all(isinstance(each.error, RhmError) for each in results if each.error is not None)
    (site,) = predict_scenes(Half(), [names[3]], tmp_path / "out", CONFIG)
    assert site.prediction is not None
    assert any("not on Earth" in note for note in site.prediction.notes)


@pytest.mark.parametrize("side_by_side", [1, 2])
def test_an_interruption_ends_everything(
    scenes: list[str], tmp_path: Path, side_by_side: int
) -> None:
    def interrupt(_: SceneResult) -> None:
        raise KeyboardInterrupt

    before = threading.active_count()
    with pytest.raises(KeyboardInterrupt):
        predict_scenes(
            Half(),
            [scenes[0], *scenes[2:]],
            tmp_path / "out",
            CONFIG,
            side_by_side=side_by_side,
            on_result=interrupt,
        )
    assert threading.active_count() <= before + side_by_side
    finished = list((tmp_path / "out").glob("*_buildings.gpkg"))
    assert 1 <= len(finished) < 4


def test_nothing_to_predict_is_no_result(tmp_path: Path) -> None:
    assert predict_scenes(Half(), [], tmp_path, CONFIG) == []


def test_calibration_reads_only_tiles_that_the_area_touches(tmp_path: Path) -> None:
    """Oracle: the windows of the image under the two corners of the area, which is a triangle."""
    pixels = noise(320, 320)
    scene = write_raster(tmp_path / "x.tif", pixels)
    corners = [HALF_METRE @ place for place in ((200, 70), (310, 70), (310, 180))]
    area = geopandas.GeoDataFrame(geometry=[shapely.Polygon(corners)], crs=UTM)
    area.to_file(tmp_path / "area.geojson")
    config = PredictionConfig(tile=64, overlap=0, aoi=read_area(str(tmp_path / "area.geojson")))
    model = built()
    samples = list(samples_of_scenes(model, [str(scene)], tmp_path, config))
    table = model.spec.input_table("uint8")
    places = [(64, 192), (64, 256), (128, 256)]
    assert len(samples) == len(places)
    for (row, col), sample in zip(places, samples, strict=True):
        window = np.ascontiguousarray(pixels[row : row + 64, col : col + 64])
        expected = np.moveaxis(table.apply(window), -1, 0)
        np.testing.assert_array_equal(sample.image[0].numpy(), expected)


def test_calibration_takes_as_many_tiles_as_fit_into_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Law: no more pixels than 32 tiles of 512 have, even if every scene has larger tiles."""
    monkeypatch.setattr("rhm.inference.plan.memory_bytes", lambda: None)
    pixels = np.full((1400, 1400, 1), 99, np.uint8)
    scenes = [
        str(write_raster(tmp_path / f"{name}.tif", pixels, compress="deflate")) for name in "abcde"
    ]
    model, config = built(bands=1), PredictionConfig(fit_tiles=True)
    assert plan_prediction(model, scenes[0], tmp_path, config).grid.tiling.tile >= 1400
    sizes = [
        each.image[0, 0].numel() for each in samples_of_scenes(model, scenes, tmp_path, config)
    ]
    assert len(sizes) == 3
    assert sum(sizes) <= 32 * 512**2


class Waiting:
    """Workers that predict nothing until they are stopped."""

    def __init__(self) -> None:
        self.stopped = threading.Event()

    def predict(self, task: Task, missing: Sequence[range]) -> Iterator[Strip]:
        assert self.stopped.wait(60)
        raise OutputError("stopped")
        yield

    def stop(self) -> None:
        self.stopped.set()


def test_an_interruption_stops_the_workers(scenes: list[str], tmp_path: Path) -> None:
    """Their strips would be waited for otherwise."""

    def interrupt(_: SceneResult) -> None:
        raise KeyboardInterrupt

    workers = Waiting()
    with pytest.raises(KeyboardInterrupt):
        predict_scenes(
            Half(),
            scenes[:2],
            tmp_path / "out",
            CONFIG,
            workers=workers,
            side_by_side=2,
            on_result=interrupt,
        )
    assert workers.stopped.is_set()
