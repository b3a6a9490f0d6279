"""``rhm predict`` on many scenes: failures are reported, and the other scenes are predicted."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import geopandas
import pytest
import rasterio
from rasterio.crs import CRS

from rhm.models.model_file import load_model, save_model

Rhm = Callable[..., tuple[int, str, str]]


def test_a_scene_that_fails_does_not_take_the_others_down(
    rhm: Rhm, trained: Path, scenes: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    code, printed, said = rhm("predict", trained, scenes, "-o", out, "--json")
    assert code == 2
    values = json.loads(printed)
    assert [Path(each["scene"]).name for each in values["scenes"]] == ["north.tif", "south.tif"]
    assert Path(values["failed"][0]["scene"]).name == "middle.tif"
    assert "1 of 3 scenes failed" in said.splitlines()[-1]
    assert "middle.tif cannot be read" in said
    assert {path.name for path in out.iterdir()} == {
        f"{name}_{what}"
        for name in ("north", "south")
        for what in ("probability.tif", "mask.tif", "buildings.gpkg")
    }


def test_a_defect_is_raised_after_the_other_scenes(
    rhm: Rhm,
    trained: Path,
    scenes: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The command line shows its traceback, asks for a report, and ends with code 1."""
    from rhm.inference import many_scenes
    from rhm.inference.scenes import predict_scene

    def failing(model: object, scene: str, *words: object, **named: object) -> object:
        if Path(scene).stem == "north":
            raise ZeroDivisionError("nobody thought of this")
        return predict_scene(model, scene, *words, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(many_scenes, "predict_scene", failing)
    out = tmp_path / "out"
    with pytest.raises(ZeroDivisionError, match="nobody thought of this"):
        rhm("-q", "predict", trained, scenes, "-o", out)
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2
    assert "middle.tif cannot be read" in said[0]
    assert "north.tif: ZeroDivisionError: nobody thought of this" in said[1]
    assert {path.name.partition("_")[0] for path in out.iterdir()} == {"south"}


def test_damaged_blocks_may_be_skipped(
    rhm: Rhm, trained: Path, scenes: Path, tmp_path: Path
) -> None:
    words = ["predict", trained, scenes / "middle.tif", "-o", tmp_path / "out"]
    code, _, said = rhm(*words)
    assert code == 2
    assert said.count("\n") == 1
    code, _, said = rhm(*words, "--skip-errors")
    assert code == 0
    assert "damaged parts of the scene are nodata, the first one at row" in said
    with rasterio.open(tmp_path / "out" / "middle_mask.tif") as mask:
        valid = mask.dataset_mask() > 0
    assert valid[0].all()
    assert not valid[-1].any()


def test_workers_give_the_same_files(rhm: Rhm, trained: Path, scenes: Path, tmp_path: Path) -> None:
    named = [
        scenes / "north.tif",
        scenes / "south.tif",
        "--tile",
        96,
        "--device",
        "cpu",
        "--runtime",
        "torch",
    ]
    for count in (1, 2):
        words = ["predict", trained, *named, "-o", tmp_path / str(count), "--workers", count]
        assert rhm(*words)[0] == 0
    for file in (tmp_path / "1").iterdir():
        assert file.read_bytes() == (tmp_path / "2" / file.name).read_bytes()


def test_a_dry_run_says_what_it_would_cost_and_writes_nothing(
    rhm: Rhm, trained: Path, scenes: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    words = ["predict", trained, scenes / "north.tif", "-o", out, "--tile", 96]
    code, printed, _ = rhm(*words, "--dry-run")
    assert code == 0
    assert "220 x 200 pixels, 5 strips, 25 tiles of 96: about" in printed
    assert not out.exists()
    code, printed, _ = rhm(*words, "--dry-run", "--json")
    (cost,) = json.loads(printed)["scenes"]
    assert cost["tiles"] == 25
    assert cost["seconds"] > 0
    assert not cost["there"]
    assert rhm(*words)[0] == 0
    assert "already exist" in rhm(*words, "--dry-run")[1]


def test_a_dry_run_estimates_the_good_scenes_and_names_the_bad_ones(
    rhm: Rhm, trained: Path, scenes: Path, tmp_path: Path
) -> None:
    bad = tmp_path / "bad.tif"
    bad.write_bytes((scenes / "north.tif").read_bytes()[:100])
    named = [scenes / "north.tif", bad, scenes / "south.tif"]
    words = ["predict", trained, *named, "-o", tmp_path / "out", "--tile", 96, "--dry-run"]
    code, printed, told = rhm(*words)
    assert code == 2
    assert [Path(line.partition(":")[0]).name for line in printed.splitlines() if ": " in line] == [
        "north.tif",
        "south.tif",
        "all 2 scenes",
    ]
    assert "to start" in printed
    assert f"failed: {bad}" in told
    assert "1 of 3 scenes failed" in told
    code, printed, _ = rhm(*words, "--json")
    assert code == 2
    told = json.loads(printed)
    assert [Path(each["scene"]).name for each in told["failed"]] == ["bad.tif"]
    for name, together in (("tiles", sum), ("disk_bytes", sum), ("memory_bytes", max)):
        assert told["total"][name] == together(each[name] for each in told["scenes"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--resources", "GPU=1"], "give --dask too"),
        (["--dask", "local", "--resources", "GPU"], "not a list of resources"),
        (["--dtype", "float64"], "unknown dtype"),
        (["--compress", "lzw"], "unknown compression"),
        (["--workers", "0"], "workers"),
    ],
)
def test_impossible_options_are_one_line(
    rhm: Rhm, trained: Path, scenes: Path, tmp_path: Path, words: list[str], message: str
) -> None:
    asked = ["predict", trained, scenes / "north.tif", "-o", tmp_path / "out", *words]
    code, _, said = rhm(*asked)
    assert code == 2
    assert message in said
    assert said.count("\n") == 1


def test_what_is_true_of_many_scenes_is_said_once(
    rhm: Rhm, trained: Path, scenes: Path, tmp_path: Path
) -> None:
    (scenes / "middle.tif").unlink()
    for name in ("north", "south"):
        with rasterio.open(scenes / f"{name}.tif", "r+") as raster:
            raster.crs = CRS()
    model = load_model(trained)
    model.spec = replace(model.spec, expected_iou=1.0, threshold=0.1)
    save_model(model, tmp_path / "proud.safetensors")
    words = ["predict", tmp_path / "proud.safetensors", scenes, "-o", tmp_path / "out", "--json"]
    code, printed, said = rhm(*words)
    assert code == 0
    first, *_, last = said.splitlines()
    assert first.startswith("2 of 2 scenes: the scene has no coordinate reference system")
    assert last.startswith("all scenes together: out of domain")
    values = json.loads(printed)
    assert values["warning"] in last
    both = [each["expected_iou"] for each in values["scenes"]]
    promised = float(values["warning"].partition("IoU of ")[2][:4])
    assert min(both) - 0.006 < promised < max(both) + 0.006
    # Another threshold changes what is called building, not what the model thinks of itself.
    code, printed, _ = rhm(*words, "--threshold", 0.9)
    assert json.loads(printed)["warning"] == values["warning"]


def test_thresholds_can_be_chosen_by_the_probabilities(
    rhm: Rhm, trained: Path, scenes: Path, tmp_path: Path
) -> None:
    (scenes / "middle.tif").unlink()
    words = ["predict", trained, scenes, "-o", tmp_path / "out"]
    code, printed, told = rhm(*words, "--threshold", "auto-all", "--json")
    assert code == 0, told
    chosen = {each["threshold"] for each in json.loads(printed)["scenes"]}
    assert len(chosen) == 1
    code, printed, _ = rhm(*words, "--threshold", "auto", "--resume")
    assert code == 0
    assert all(" (threshold 0." in line for line in printed.splitlines())
    code, printed, told = rhm(*words, "--threshold", "best")
    assert (code, printed) == (2, "")
    assert "threshold must be a number between 0 and 1, auto, auto-all" in told
    assert told.count("\n") == 1
    code, _, told = rhm(*words, "--threshold", "1.5")
    assert (code, "threshold must be between 0 and 1, got 1.5" in told) == (2, True)


def test_predict_writes_the_named_files(
    rhm: Rhm, world: Path, trained: Path, tmp_path: Path
) -> None:
    scene = world / "scenes" / "birch_satellite.tif"
    words = [
        "predict",
        trained,
        scene,
        "-o",
        tmp_path,
        "--tile",
        96,
        "--overlap",
        32,
        "--split-m",
        0,
    ]
    code, _, _ = rhm(*words)
    assert code == 0
    names = {path.name for path in tmp_path.iterdir()}
    stem = "birch_satellite"
    assert names == {f"{stem}_probability.tif", f"{stem}_mask.tif", f"{stem}_buildings.gpkg"}
    with rasterio.open(tmp_path / f"{stem}_probability.tif") as raster:
        assert raster.dtypes == ("uint8",)
        assert raster.crs.to_epsg() == 32636
    code, printed, _ = rhm(*words, "--format", "geojson", "--threshold", 0.0, "--json")
    assert code == 0
    written = json.loads(printed)["scenes"][0]
    frame = geopandas.read_file(written["buildings"])
    assert frame.crs.to_epsg() == 4326
    assert len(frame) == written["count"] == 1


def test_views_are_averaged_when_asked_for(
    rhm: Rhm, world: Path, catalog_path: Path, trained: Path, tmp_path: Path
) -> None:
    scene = world / "scenes" / "birch_satellite.tif"
    seen = []
    for folder, words in (("one", []), ("eight", ["--views"])):
        assert rhm("predict", trained, scene, "-o", tmp_path / folder, *words)[0] == 0
        with rasterio.open(tmp_path / folder / "birch_satellite_probability.tif") as raster:
            seen.append(raster.read(1).astype(int))
        scores = tmp_path / f"{folder}-scores"
        asked = ["evaluate", trained, catalog_path, "--domain", "alder_aerial", "-o", scores]
        assert rhm(*asked, *words)[0] == 0
        values = json.loads((scores / "scores.json").read_text())
        assert values["views"] is (folder == "eight")
    assert (seen[0] != seen[1]).any()
    assert seen[1].std() < seen[0].std()


def test_an_area_of_interest_limits_what_is_predicted(
    rhm: Rhm, trained: Path, scenes: Path, tmp_path: Path
) -> None:
    with rasterio.open(scenes / "north.tif") as source:
        crs, bounds, gsd = source.crs.to_string(), source.bounds, source.res[0]
    box = f"{bounds.left},{bounds.top - 80 * gsd},{bounds.left + 60 * gsd},{bounds.top},{crs}"
    words = ["predict", trained, scenes / "north.tif", "-o", tmp_path / "out", "--tile", 96]
    code, printed, _ = rhm(*words, "--aoi", box, "--dry-run")
    assert code == 0
    assert "60 x 80 pixels" in printed
    assert rhm(*words, "--aoi", box, "--no-resample")[0] == 0
    with rasterio.open(tmp_path / "out" / "north_mask.tif") as mask:
        assert (mask.width, mask.height) == (60, 80)
    far = "0,0,0.1,0.1"
    code, _, said = rhm(*words, "--aoi", far)
    assert code == 2
    assert said.count("\n") == 1
    assert "north.tif lies outside the area of interest (0,0,0.1,0.1)" in said


def test_in_a_batch_scenes_outside_the_area_are_skipped_and_said(
    rhm: Rhm, trained: Path, scenes: Path, tmp_path: Path
) -> None:
    (scenes / "middle.tif").unlink()
    with rasterio.open(scenes / "north.tif") as source:
        profile, pixels = source.profile, source.read()
        crs, bounds = source.crs.to_string(), source.bounds
    profile["transform"] = profile["transform"] @ rasterio.Affine.translation(90_000, 0)
    with rasterio.open(scenes / "away.tif", "w", **profile) as target:
        target.write(pixels)
    box = f"{bounds.left},{bounds.bottom},{bounds.right},{bounds.top},{crs}"
    words = ["predict", trained, scenes, "-o", tmp_path / "out", "--aoi", box, "--json"]
    code, printed, said = rhm(*words)
    assert code == 0
    values = json.loads(printed)
    assert [Path(each).name for each in values["outside"]] == ["away.tif"]
    assert len(values["scenes"]) == 2
    assert "skipped: " in said
    code, _, said = rhm(*words[:-3], "--aoi", "0,0,0.1,0.1")
    assert code == 2
    assert "all 3 scenes lie outside the area of interest" in said


@pytest.mark.parametrize(
    ("merge", "told"),
    [("town.shp", "suffix must be one of"), ("there", "was not written by a merge")],
)
def test_a_layer_that_cannot_be_written_is_refused_before_anything_is_predicted(
    rhm: Rhm, trained: Path, scenes: Path, tmp_path: Path, merge: str, told: str
) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "notes.txt").write_text("mine")
    words = ["predict", trained, scenes / "north.tif", "-o", tmp_path / "out", "--tile", 96]
    code, printed, err = rhm(*words, "--merge", tmp_path / merge)
    assert (code, printed, err.count("\n")) == (2, "", 1)
    assert told in err
    assert not (tmp_path / "out").exists()


def test_the_layer_of_other_scenes_is_not_replaced(
    rhm: Rhm, trained: Path, scenes: Path, tmp_path: Path
) -> None:
    town = tmp_path / "town.gpkg"
    words = ["-o", tmp_path / "out", "--tile", 96, "--threshold", 0.3, "--merge", town]
    assert rhm("predict", trained, scenes / "north.tif", *words)[0] == 0
    assert set(geopandas.read_file(town)["scene"]) == {"north"}
    before = town.read_bytes()
    code, printed, err = rhm("predict", trained, scenes / "south.tif", *words)
    assert (code, printed, err.count("\n")) == (2, "", 1)
    assert "has the buildings of north, which would be lost" in err
    assert town.read_bytes() == before
    assert not (tmp_path / "out" / "south_mask.tif").exists()
    assert rhm("predict", trained, scenes / "south.tif", *words, "--overwrite")[0] == 0
