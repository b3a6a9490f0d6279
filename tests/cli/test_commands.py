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

from rhm.cli.main import run

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def rhm(capsys: Capture) -> Callable[..., tuple[int, str, str]]:
    """Run a command; returns exit code, standard output and standard error."""

    def call(*words: object) -> tuple[int, str, str]:
        code = run([str(word) for word in words])
        out, err = capsys.readouterr()
        return code, out, err

    return call


@pytest.fixture(scope="session")
def trained(catalog_path: Path, bank_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two steps with histogram matching."""
    folder = tmp_path_factory.mktemp("runs")
    config = folder / "config.yaml"
    config.write_text(
        f"""
name: tiny
output: {folder}
data: {{catalog: {catalog_path}, sources: [alder_aerial], chip_px: 64, workers: 0}}
trainer: {{steps: 2, batch_size: 2, accelerator: cpu}}
"""
    )
    assert run(["train", str(config), "--bank", str(bank_path), "--quiet"]) == 0
    return folder / "tiny"


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


def test_banks_are_built_added_to_and_shown(rhm: Rhm, world: Path, tmp_path: Path) -> None:
    first, both = tmp_path / "first.bank", tmp_path / "both.bank"
    code, printed, _ = rhm("bank", "build", world / "birch_satellite" / "images", "-o", first)
    assert code == 0
    assert "6 images, 3 bands" in printed
    images = [world / town / "images" for town in ("birch_aerial", "alder_aerial")]
    words = ["bank", "build", *images, "-o", both, "--add", first, "--shift", "gamma", "--json"]
    code, printed, _ = rhm(*words)
    assert code == 0
    assert json.loads(printed)["images"] == 18
    code, printed, _ = rhm("bank", "show", both)
    assert code == 0
    lines = printed.splitlines()
    assert lines[0] == "18 images, 3 bands"
    drawn = [line for line in lines if "█" in line]
    assert len(drawn) == 9
    for domain, dtype in (
        ("alder_aerial", "uint8"),
        ("birch_aerial", "uint8"),
        ("birch_satellite", "uint16"),
    ):
        (title,) = [line for line in lines if line.startswith(f"{domain}: ")]
        assert title.endswith(f"6 images, {6 * 96 * 96} pixels of {dtype}")
    axes = [line for line in lines if line.startswith("band ")]
    assert axes[0] == axes[1] != axes[2]
    code, printed, _ = rhm("bank", "show", both, "--json")
    shown = json.loads(printed)
    assert len(shown["names"]) == 18
    assert [(each["domain"], each["images"]) for each in shown["domains"]] == [
        ("alder_aerial", 6),
        ("birch_aerial", 6),
        ("birch_satellite", 6),
    ]
    (distance,) = shown["distances"]
    assert (distance["domain"], distance["other"]) == ("alder_aerial", "birch_aerial")
    assert f"alder_aerial   birch_aerial  uint8  {distance['distance'][0]:.3f}" in lines[-1]


def test_a_bank_is_the_same_for_any_number_of_workers(
    rhm: Rhm, world: Path, tmp_path: Path
) -> None:
    images = world / "birch_satellite" / "images"
    for name, words in (
        ("a", ["--workers", 1]),
        ("b", ["--workers", 3]),
        ("c", ["--decimated"]),
        ("d", []),
    ):
        assert rhm("bank", "build", images, "-o", tmp_path / f"{name}.bank", *words)[0] == 0
    # Images of fewer pixels than a decimated one may have are counted whole.
    assert len({path.read_bytes() for path in tmp_path.iterdir()}) == 1


def flat_bank(path: Path, values: dict[str, int], *, bands: int = 1, dtype: str = "uint8") -> Path:
    """Write a bank of images of one value each, by their names."""
    from rhm.bank import HistogramBank

    images = (np.full((4, 5, bands), value, dtype=dtype) for value in values.values())
    HistogramBank.from_images(images, names=list(values)).save(path)
    return path


def test_distances_of_banks_are_between_domains(rhm: Rhm, tmp_path: Path) -> None:
    ours = flat_bank(tmp_path / "a.bank", {"x/1": 10, "x/2": 20, "y/1": 50}, bands=2)
    theirs = flat_bank(tmp_path / "b.bank", {"z/1": 0, "one": 55}, bands=2)
    code, printed, _ = rhm("bank", "show", ours, "--against", theirs, "--json")
    assert code == 0
    found = {(d["domain"], d["other"]): d["distance"] for d in json.loads(printed)["distances"]}
    assert found == {
        ("x", ""): [40.0, 40.0],
        ("x", "z"): [15.0, 15.0],
        ("y", ""): [5.0, 5.0],
        ("y", "z"): [50.0, 50.0],
    }
    code, printed, _ = rhm("bank", "show", ours, "--against", theirs)
    assert printed.splitlines()[-5:][::4] == [
        "distance from  to         dtype  band 1  band 2",
        "y              z          uint8  50.000  50.000",
    ]
    deep = flat_bank(tmp_path / "c.bank", {"z/1": 0}, bands=2, dtype="uint16")
    gray = flat_bank(tmp_path / "d.bank", {"z/1": 0})
    for other, told in ((deep, "no distance from uint8"), (gray, "no distance from 2 bands to 1")):
        code, printed, err = rhm("bank", "show", ours, "--against", other)
        assert (code, printed, err.count("\n")) == (2, "", 1)
        assert told in err


def drawings(printed: str) -> list[str]:
    """The drawn bands, each as wide as its axis."""
    found, start = [], 0
    for line in printed.splitlines():
        if line.startswith("band "):
            start = line.index("98%") + 5
            assert len(line) == start + 48
        elif start and line.strip()[:1].isdigit():
            found.append(line[start:].ljust(48))
    return found


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32"])
def test_a_drawing_shows_where_the_pixels_are(rhm: Rhm, tmp_path: Path, dtype: str) -> None:
    from rhm.bank import HistogramBank

    low, high = (-0.5, 0.25) if dtype == "float32" else (50, 150)
    ramp = np.linspace(low, high, 96 * 100).reshape(96, 100).astype(dtype)
    left, middle = ramp[:48], np.full((2, 2), (low + high) / 2, dtype=dtype)
    images = [ramp, left, middle]
    bank = HistogramBank.from_images(images, names=["all/1", "left/1", "middle/1"])
    bank.save(tmp_path / "a.bank")
    code, printed, _ = rhm("bank", "show", tmp_path / "a.bank")
    assert code == 0
    everything, half, one = drawings(printed)
    assert set(everything) <= set("▆▇█")
    assert set(half[:23]) <= set("▆▇█")
    assert set(half[25:]) == {" "}
    assert 1 <= len(one.strip()) <= 2
    assert one.index("█") in (23, 24)


def test_what_a_bank_says_of_itself_cannot_steer_the_terminal(rhm: Rhm, tmp_path: Path) -> None:
    hostile = "\x1b[31m\x07\u202e\x9b2J\ntown/1"
    bank = flat_bank(tmp_path / "a.bank", {hostile: 5, "b/2": 9})
    code, printed, _ = rhm("bank", "show", bank)
    assert code == 0
    assert all(line.isprintable() for line in printed.splitlines())
    assert "town: 1 images" in printed
    code, printed, _ = rhm("bank", "show", bank, "--json")
    assert all(line.isprintable() for line in printed.splitlines())
    assert json.loads(printed)["names"] == [hostile, "b/2"]


def test_a_terminal_without_block_characters_gets_plain_ones(tmp_path: Path) -> None:
    bank = flat_bank(tmp_path / "a.bank", {"a/1": 5, "b/2": 9})
    done = subprocess.run(
        [sys.executable, "-m", "rhm.cli.main", "bank", "show", bank],
        capture_output=True,
        env=dict(os.environ) | {"PYTHONIOENCODING": "latin-1"},
    )
    assert done.returncode == 0, done.stderr
    assert b"@@@" in done.stdout


def test_predict_writes_the_named_files(
    rhm: Rhm, world: Path, trained: Path, tmp_path: Path
) -> None:
    scene = world / "scenes" / "birch_satellite.tif"
    words = ["predict", trained, scene, "-o", tmp_path, "--tile", 96, "--overlap", 32]
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
            "has no domain atlantis: choose of alder_aerial",
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
    code = "import rhm.cli.main as m, rhm.data.raster as r\n"
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
