"""With ``resume`` a scene is predicted again exactly if something about it has changed."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio.shutil
import torch
from numpy.typing import NDArray

from rhm.data.radiometry import Scaling
from rhm.errors import OutputError, RasterError
from rhm.inference import predict_raster
from rhm.inference.polygons import PolygonConfig
from rhm.inference.scenes import TOO_FEW_BUILDINGS, TOO_LARGE
from tests.inference.scenes import Bright, spec, write_scene


@pytest.mark.parametrize("suffix", [".gpkg", ".parquet", ".fgb"])
def test_resume_does_a_scene_again_when_anything_changed(
    houses: NDArray[np.uint8], tmp_path: Path, suffix: str
) -> None:
    scene = write_scene(tmp_path / "x.tif", houses)
    options: dict[str, Any] = {"resume": True, "suffix": suffix}

    def again(**changes: Any) -> bool:
        result = predict_raster(Bright(), scene, tmp_path / "out", **(options | changes))
        assert result.count > 0
        return "the results already existed" not in result.notes

    assert again()
    assert not again()
    assert again(polygons=PolygonConfig(threshold=0.4))
    assert again(tile=96)
    houses[150:170, 150:170] = 230
    write_scene(scene, houses)
    assert again(tile=96)
    assert not again(tile=96)
    assert again(tile=96, views=True)
    assert not again(tile=96, views=True)
    assert again(tile=96)
    (tmp_path / "out" / "x_mask.tif").write_bytes(b"")
    assert again(tile=96)


def test_resume_does_a_scene_again_for_another_description_of_the_model(
    houses: NDArray[np.uint8], tmp_path: Path
) -> None:
    scene = write_scene(tmp_path / "x.tif", houses)
    wider = {"uint8": Scaling("uint8", (0.0,) * 3, (300.0,) * 3)}
    for changes in ({}, {"standardize": "gray-world"}, {"scalings": wider}):
        for notes in ((), ("the results already existed",)):
            model = Bright(spec(**changes))
            assert predict_raster(model, scene, tmp_path, resume=True).notes == notes


def test_resume_leaves_complete_scenes_alone(houses: NDArray[np.uint8], tmp_path: Path) -> None:
    scene = write_scene(tmp_path / "x.tif", houses)
    first = predict_raster(Bright(), scene, tmp_path / "out", resume=True)
    before = first.mask.stat().st_mtime_ns
    again = predict_raster(Bright(), scene, tmp_path / "out", resume=True)
    assert again.count == first.count == 2
    assert first.mask.stat().st_mtime_ns == before
    first.buildings.unlink()
    predict_raster(Bright(), scene, tmp_path / "out", resume=True)
    assert first.buildings.is_file()
    assert first.mask.stat().st_mtime_ns > before


@pytest.mark.parametrize("text", [b"abc", b"inf", b"nan", b"9.9", b"-.1"])
def test_a_mask_whose_threshold_is_none_is_made_again(
    houses: NDArray[np.uint8], tmp_path: Path, text: bytes
) -> None:
    scene = write_scene(tmp_path / "x.tif", houses)
    first = predict_raster(Bright(), scene, tmp_path / "out", resume=True)
    whole = first.mask.read_bytes()
    tag = b'name="RHM_THRESHOLD">'
    first.mask.write_bytes(whole.replace(tag + b"0.5", tag + text))
    assert first.mask.read_bytes() != whole
    again = predict_raster(Bright(), scene, tmp_path / "out", resume=True)
    assert (again.threshold, again.count) == (0.5, first.count)
    assert first.mask.read_bytes() == whole


@pytest.mark.parametrize("tag", ["RHM_THRESHOLD", "RHM_SCORES"])
def test_a_mask_whose_tags_were_edited_is_replaced_only_with_overwrite(
    houses: NDArray[np.uint8], tmp_path: Path, tag: str
) -> None:
    scene = write_scene(tmp_path / "x.tif", houses)
    first = predict_raster(Bright(), scene, tmp_path / "out", resume=True)
    whole = first.mask.read_bytes()
    with rasterio.open(first.mask, "r+", IGNORE_COG_LAYOUT_BREAK="YES") as raster:
        raster.update_tags(**{tag: "\x1b[31mabc"})
    with pytest.raises(OutputError, match=r"x_mask\.tif was edited after its prediction"):
        predict_raster(Bright(), scene, tmp_path / "out", resume=True)
    again = predict_raster(Bright(), scene, tmp_path / "out", resume=True, overwrite=True)
    assert (again.threshold, again.scores) == (0.5, "mean probability")
    assert first.mask.read_bytes() == whole


@pytest.mark.parametrize("resolution", ["its own", "the model's"])
def test_what_the_user_should_know_of_damage_is_said_again(
    houses: NDArray[np.uint8], tmp_path: Path, resolution: str
) -> None:
    scene, out = tmp_path / "x.tif", tmp_path / "out"
    write_scene(scene, houses, tiled=True, blockxsize=64, blockysize=64)
    scene.write_bytes(scene.read_bytes()[: scene.stat().st_size // 2])
    model = Bright(spec(gsd_m=0.5 if resolution == "its own" else 0.8))
    first = predict_raster(model, scene, out, skip_errors=True)
    assert "damaged parts of the scene are nodata, the first one at row" in first.notes[-1]
    assert len(first.notes) == (1 if resolution == "its own" else 2)
    for threshold in (0.5, 0.6, 0.6, 0.7):
        polygons = PolygonConfig(threshold=threshold)
        again = predict_raster(model, scene, out, skip_errors=True, resume=True, polygons=polygons)
        assert again.notes[:-1] == first.notes
        assert again.notes[-1].endswith("already existed")


def test_what_the_user_should_know_of_a_threshold_is_said_again(
    houses: NDArray[np.uint8], tmp_path: Path
) -> None:
    houses[:] = 20
    scene, auto = write_scene(tmp_path / "x.tif", houses), PolygonConfig(threshold="auto")
    for existed in ((), ("the results already existed",)):
        found = predict_raster(Bright(), scene, tmp_path, resume=True, polygons=auto)
        assert found.notes == (TOO_FEW_BUILDINGS, *existed)
    # Of a threshold that was given, there is nothing to say.
    found = predict_raster(Bright(), scene, tmp_path, resume=True, polygons=PolygonConfig(0.5))
    assert found.notes == ("the probabilities already existed",)


def brighter_than(level: float) -> Callable[[torch.Tensor], torch.Tensor]:
    def network(images: torch.Tensor) -> torch.Tensor:
        return 20.0 * (images.mean(1, keepdim=True) - level)

    return network


def test_functions_of_one_name_are_not_taken_for_each_other(
    houses: NDArray[np.uint8], tmp_path: Path
) -> None:
    scene = write_scene(tmp_path / "x.tif", houses)
    counts = []
    for level in (0.5, 2.0):
        network = brighter_than(level)
        result = predict_raster(network, scene, tmp_path / "out", resume=True)
        (note,) = result.notes
        assert "cannot be identified: nothing was resumed" in note
        counts.append(result.count)
    assert counts == [2, 0]
    assert predict_raster(brighter_than(0.5), scene, tmp_path / "out").notes == ()


def test_resume_does_a_virtual_raster_again_when_its_source_changed(
    houses: NDArray[np.uint8], tmp_path: Path
) -> None:
    source = write_scene(tmp_path / "source.tif", houses)
    scene = tmp_path / "x.vrt"
    rasterio.shutil.copy(source, scene, driver="VRT")
    counts = []
    for rows in (0, 200):
        houses[:rows] = 20
        write_scene(source, houses)
        os.utime(source, ns=(1, 10**9 * rows))
        counts.append(predict_raster(Bright(), scene, tmp_path / "out", resume=True).count)
    assert counts == [2, 0]


def test_a_scene_that_is_rewritten_while_it_is_read_replaces_no_results(
    houses: NDArray[np.uint8], tmp_path: Path
) -> None:
    """Otherwise half the results would describe an image that never was."""
    scene, out = write_scene(tmp_path / "x.tif", houses), tmp_path / "out"
    predict_raster(Bright(), scene, out, tile=64, overlap=16)
    before = {path.name: path.read_bytes() for path in out.iterdir()}

    def rewrite(pixels: int) -> None:
        if pixels:
            write_scene(scene, 255 - houses)

    with pytest.raises(RasterError, match=r"x\.tif changed while it was read"):
        predict_raster(Bright(), scene, out, tile=64, overlap=16, on_progress=rewrite)
    assert before == {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()}
    again = predict_raster(Bright(), scene, out, tile=64, overlap=16, resume=True)
    assert again.notes == ()
    fresh = predict_raster(Bright(), scene, tmp_path / "fresh", tile=64, overlap=16)
    assert again.buildings.read_bytes() == fresh.buildings.read_bytes()
    assert again.probability.read_bytes() == fresh.probability.read_bytes()


def test_a_group_too_large_to_be_separated_is_noted_and_remembered(
    houses: NDArray[np.uint8], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = write_scene(tmp_path / "x.tif", houses)
    told = f"{TOO_LARGE}: 1"
    split = PolygonConfig(split_m=3.0)
    assert predict_raster(Bright(), scene, tmp_path / "split", polygons=split).notes == ()
    monkeypatch.setattr("rhm.inference.tracing.splitting._LARGEST", 150)
    for polygons, notes in ((split, (told,)), (PolygonConfig(), ())):
        first = predict_raster(Bright(), scene, tmp_path / "out", polygons=polygons, resume=True)
        assert [note for note in first.notes if "existed" not in note] == list(notes)
        again = predict_raster(Bright(), scene, tmp_path / "out", polygons=polygons, resume=True)
        assert again.notes == (*notes, "the results already existed")
