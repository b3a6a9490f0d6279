"""With ``resume`` a scene is predicted again exactly if something about it has changed."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from rhm.data.radiometry import Scaling
from rhm.inference import predict_raster
from rhm.inference.polygons import PolygonConfig
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
