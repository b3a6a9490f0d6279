"""The command line, as a user types it: results, and one line with exit code 2."""

import json
import os
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pytest
import rasterio

Rhm = Callable[..., tuple[int, str, str]]


def test_index_finds_the_world(rhm: Rhm, world: Path, tmp_path: Path) -> None:
    out = tmp_path / "catalog.parquet"
    words = ["data", "index", "folder", world, "-o", out, "--group-pattern", r"(\d+)$", "--json"]
    code, printed, _ = rhm(*words)
    assert code == 0
    domains = {row["domain"]: row for row in json.loads(printed)["domains"]}
    assert len(domains) == 4
    assert domains["birch_satellite"]["images"] == 6
    assert len(geopandas.read_parquet(out)) == 24
    code, printed, _ = rhm(*words[:-1])
    assert "24 images" in printed


def test_inspect_says_what_a_raster_is(rhm: Rhm, world: Path, trained: Path) -> None:
    scene = world / "scenes" / "birch_satellite.tif"
    code, printed, _ = rhm("data", "inspect", scene, "--model", trained, "--json")
    assert code == 0
    facts = json.loads(printed)["rasters"][0]
    assert facts["size"] == "160 x 160"
    assert facts["dtype"] == "uint16"
    assert facts["crs"] == "EPSG:32636"
    assert facts["nearest_domain"] == "alder_aerial"
    assert len(facts["distance"]) == 3
    code, printed, _ = rhm("data", "inspect", scene)
    assert code == 0
    assert "EPSG:32636" in printed


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


def test_evaluate_and_report(rhm: Rhm, catalog_path: Path, trained: Path, tmp_path: Path) -> None:
    words = ["evaluate", trained, catalog_path, "--domain", "alder_aerial", "--shift", "gamma"]
    code, printed, _ = rhm(*words)
    assert code == 0
    assert "alder_aerial (gamma shift)" in printed
    page = tmp_path / "report.html"
    code, printed, _ = rhm("report", trained, "-o", page)
    assert code == 0
    assert "<html" in page.read_text()
    assert json.loads(page.with_suffix(".json").read_text())


def truncated(path: Path, scene: Path) -> Path:
    path.write_bytes(scene.read_bytes()[: scene.stat().st_size // 2])
    return path


def bands_of(path: Path, scene: Path, count: int) -> Path:
    with rasterio.open(scene) as source:
        profile = source.profile | {"count": count}
        pixels = np.repeat(source.read([1]), count, axis=0)
    with rasterio.open(path, "w", **profile) as target:
        target.write(pixels)
    return path


def test_bad_input_is_one_line_and_exit_code_2(
    rhm: Rhm, world: Path, catalog_path: Path, trained: Path, tmp_path: Path
) -> None:
    scene = world / "scenes" / "birch_satellite.tif"
    (tmp_path / "text.tif").write_text("not a raster")
    (tmp_path / "empty").mkdir()
    out = tmp_path / "out"
    blocked = tmp_path / "text.tif" / "out"
    config = tmp_path / "config.yaml"
    config.write_text("name: a\ndata: {catalog: c.parquet}\nmodle: {}\n")
    good = tmp_path / "good.yaml"
    good.write_text(
        f"name: a\noutput: {out}\n"
        f"data: {{catalog: {catalog_path}, sources: [birch_satellite]}}\n"
        "trainer: {accelerator: cpu}\n"
    )
    cases: list[tuple[str, list[Any]]] = [
        (
            "model.standardize undoes what augment.colour varies: choose one of the two",
            ["train", good, "--set", "model.standardize=equalize", "--bank", "b.bank"],
        ),
        ("choose none, equalize, gray", ["train", good, "--set", "model.standardize=sepia"]),
        ("choose none, rhm, mean-std", ["train", good, "--set", "augment.colour=sepia"]),
        ("a bank is for colour rhm", ["train", good, "--set", "augment={colour: hsv, bank: a}"]),
        (
            "has no domain atlantis: choose from alder_aerial",
            ["train", good, "--set", "augment={colour: fda, targets: [atlantis]}"],
        ),
        ("no such file", ["predict", trained, tmp_path / "none.tif", "-o", out]),
        ("not a raster", ["predict", trained, tmp_path / "text.tif", "-o", out]),
        ("cannot be", ["predict", trained, truncated(tmp_path / "cut.tif", scene), "-o", out]),
        (
            "has 4 bands, the model takes 3",
            ["predict", trained, bands_of(tmp_path / "four.tif", scene, 4), "-o", out],
        ),
        ("no images in", ["predict", trained, tmp_path / "empty", "-o", out]),
        (
            "would write the same files",
            ["predict", trained, scene, world / "scenes" / "birch_satellite.gpkg", "-o", out],
        ),
        ("cannot write to", ["predict", trained, scene, "-o", blocked]),
        ("no model at", ["predict", tmp_path / "none", scene, "-o", out]),
        ("not a model file", ["predict", tmp_path / "text.tif", scene, "-o", out]),
        ("did you mean 'model'", ["train", config]),
        ("no configuration at", ["train", tmp_path / "none.yaml"]),
        ("no catalog at", ["evaluate", trained, tmp_path / "none.parquet"]),
        ("not a catalog", ["evaluate", trained, tmp_path / "text.tif"]),
        ("no images under", ["data", "index", "folder", tmp_path / "empty", "-o", out]),
        ("no Inria tiles", ["data", "index", "inria", tmp_path / "empty", "-o", out]),
        ("no SpaceNet images", ["data", "index", "spacenet", tmp_path / "empty", "-o", out]),
        ("no such file", ["data", "inspect", tmp_path / "none.tif"]),
        ("no histogram bank at", ["bank", "show", tmp_path / "none.bank"]),
        ("as a histogram bank", ["bank", "show", scene]),
        ("run `rhm evaluate`", ["report", tmp_path / "empty", "-o", tmp_path / "r.html"]),
    ]
    before = sorted(path.name for path in tmp_path.iterdir())
    for told, words in cases:
        code, printed, err = rhm(*words)
        assert code == 2, (words, err)
        assert told in err, (words, err)
        assert err.count("\n") == 1, err
        assert printed == ""
    left = [path for path in out.rglob("*") if path.is_file()] if out.exists() else []
    assert left == []
    assert [n for n in sorted(p.name for p in tmp_path.iterdir()) if n != "out"] == before


def test_labels_that_do_not_fit_are_one_line(rhm: Rhm, world: Path, tmp_path: Path) -> None:
    images, masks = tmp_path / "city" / "images", tmp_path / "city" / "masks"
    images.mkdir(parents=True)
    masks.mkdir()
    source = next((world / "alder_aerial" / "images").glob("*.tif"))
    (images / "a.tif").write_bytes(source.read_bytes())
    with rasterio.open(
        masks / "a.tif",
        "w",
        driver="GTiff",
        height=10,
        width=12,
        count=1,
        dtype="uint8",
        crs="EPSG:32633",
        transform=rasterio.Affine(1, 0, 5, 0, -1, 5),
    ) as mask:
        mask.write(np.zeros((1, 10, 12), np.uint8))
    out = tmp_path / "catalog.parquet"
    code, _, err = rhm("data", "index", "folder", tmp_path / "city", "-o", out)
    assert (code, err.count("\n")) == (2, 1)
    assert "12 x 10" in err
    assert "96 x 96" in err
    (masks / "a.tif").unlink()
    vectors = tmp_path / "city" / "footprints"
    vectors.mkdir()
    footprints = geopandas.read_file(next((world / "alder_aerial" / "footprints").glob("*.gpkg")))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that it has no CRS is the point
        footprints.set_crs(None, allow_override=True).to_file(vectors / "a.gpkg")
    code, _, err = rhm("data", "index", "folder", tmp_path / "city", "-o", out)
    assert (code, err.count("\n")) == (2, 1)
    assert "coordinate reference system" in err or "CRS" in err
    assert not out.exists()


@pytest.mark.parametrize(
    "words",
    [
        ["data", "index", "nonsense", "."],
        ["predict", "m", "s", "-o", "o", "--tile", "100"],
        ["predict", "m", "s", "-o", "o", "--format", "dwg"],
        ["evaluate", "m", "c", "--split", "all-of-them"],
        ["no-such-command"],
        ["train"],
    ],
)
def test_wrong_usage_is_exit_code_2(rhm: Rhm, words: list[str]) -> None:
    code, _, err = rhm(*words)
    assert code == 2
    assert "Traceback" not in err


def test_an_interrupted_command_exits_with_130() -> None:
    code = "import rhm.cli.main as m, rhm.data.rasters.raster as r\n"
    code += "def stop(*a, **k): raise KeyboardInterrupt\n"
    code += "r.describe = stop; r.Raster.__init__ = stop\n"
    code += "raise SystemExit(m.run(['data', 'inspect', 'x.tif']))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=dict(os.environ)
    )
    assert done.returncode == 130
    assert "Traceback" not in done.stderr


def test_help_has_an_example_for_every_command(rhm: Rhm) -> None:
    for words in (
        ["data", "index"],
        ["data", "inspect"],
        ["bank", "build"],
        ["bank", "show"],
        ["train"],
        ["predict"],
        ["evaluate"],
        ["report"],
        ["demo"],
    ):
        code, printed, _ = rhm(*words, "--help")
        assert code == 0
        assert f"Example: rhm {' '.join(words)}" in printed
    code, printed, _ = rhm("--version")
    assert code == 0
    assert printed.startswith("rhm ")


def test_quiet_leaves_results_and_errors(
    rhm: Rhm, world: Path, trained: Path, tmp_path: Path
) -> None:
    scene = tmp_path / "nowhere.tif"
    with rasterio.open(world / "scenes" / "birch_satellite.tif") as placed:
        profile = placed.profile | {"crs": None}
        with rasterio.open(scene, "w", **profile) as raster:
            raster.write(placed.read())
    words = ["predict", trained, scene, "-o", tmp_path / "out"]
    code, printed, said = rhm(*words)
    assert (code, "buildings in" in printed) == (0, True)
    assert "no coordinate reference system" in said
    code, printed, said = rhm("--quiet", *words)
    assert (code, "buildings in" in printed, said) == (0, True, "")
    code, printed, said = rhm("--quiet", "predict", tmp_path, scene, "-o", tmp_path / "out")
    assert (code, printed) == (2, "")
    assert said.startswith("rhm: no model")
    assert rhm(*words)[2]


def test_verbose_logs_what_is_done_and_where_an_error_comes_from(
    world: Path, trained: Path, tmp_path: Path
) -> None:
    def said(*words: object) -> str:
        command = [sys.executable, "-m", "rhm.cli.main", "--verbose", *map(str, words)]
        return subprocess.run(command, capture_output=True, text=True, check=False).stderr

    scene = world / "scenes" / "birch_satellite.tif"
    assert "160 x 160 pixels, 1 strips" in said("predict", trained, scene, "-o", tmp_path / "out")
    wrong = said("predict", tmp_path, scene, "-o", tmp_path / "out")
    assert "Traceback" in wrong
    assert wrong.splitlines()[-1].startswith("rhm: no model")
