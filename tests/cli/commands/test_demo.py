"""``rhm demo``: how it reads real imagery, and the whole workflow with two training steps."""

import json
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import geopandas
import pytest

from rhm.cli.commands.demo import Story, _indexed_folder, _next, _real
from rhm.data import Catalog

Rhm = Callable[..., tuple[int, str, str]]


@pytest.fixture
def domains(world: Path, tmp_path: Path) -> Path:
    """A folder of two domains of the sample world."""
    for domain in ("alder_aerial", "birch_satellite"):
        shutil.copytree(world / domain, tmp_path / "data" / domain)
    return tmp_path / "data"


def files_in(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_largest_domain_is_the_source_and_the_densest_other_image_the_scene(
    world: Path, tmp_path: Path
) -> None:
    source = world / "birch_aerial"
    data = tmp_path / "data"
    for name, count in (("much", 5), ("little", 2)):
        for kind, suffix in (("images", "tif"), ("footprints", "gpkg")):
            (data / name / kind).mkdir(parents=True)
            for number in range(count):
                file = source / kind / f"birch_aerial_{number:02d}.{suffix}"
                (data / name / kind / f"{name}_{number}.{suffix}").write_bytes(file.read_bytes())
    catalog = _indexed_folder(data, 0)
    story = _real(tmp_path, catalog, None)
    assert (story.source, story.targets) == ("much", ("little",))
    others = catalog.select(domains=["little"]).tiles
    (scene,) = story.scenes
    densest = max(others, key=lambda tile: tile.building_fraction or 0.0)
    assert scene == densest.image
    assert _real(tmp_path, catalog, "little").source == "little"


def test_the_story_is_told_to_the_end(rhm: Rhm, domains: Path, tmp_path: Path) -> None:
    words = ["demo", "--data", domains, "--source", "alder_aerial", "--steps", 2]
    code, printed, err = rhm(*words, "-o", tmp_path / "out", "--json")
    assert code == 0, err
    values = json.loads(printed)
    methods = ["none", "spectrum, scale"]
    assert [run["method"] for run in values["runs"]] == methods
    for run in values["runs"]:
        assert {domain["name"] for domain in run["domains"]} >= {"alder_aerial", "birch_satellite"}
    assert "<html" in Path(values["report"]).read_text()
    (buildings,) = values["scenes"]
    assert geopandas.read_file(buildings).crs.to_epsg() == 32636
    models = sorted((tmp_path / "out" / "runs").glob("*/model.safetensors"))
    before = [path.stat().st_mtime_ns for path in models]
    code, printed, err = rhm(*words, "-o", tmp_path / "out")
    assert code == 0, err
    moral = [line for line in printed.splitlines() if "with the bank" in line]
    assert [line.partition(" (")[0] for line in moral] == ["alder_aerial", "birch_satellite"]
    assert printed.splitlines()[-1].startswith("see the map: rhm view ")
    # What is trained is not trained again.
    assert "alder_aerial-bank-0 is already trained" in err
    assert [path.stat().st_mtime_ns for path in models] == before
    assert len(models) == 2
    kept = files_in(tmp_path / "out")
    code, printed, err = rhm(*words[:-1], 3, "-o", tmp_path / "out")
    assert (code, printed, err.count("\n")) == (2, "", 1)
    assert "with these settings (3 steps): choose another folder with --output" in err
    assert files_in(tmp_path / "out") == kept


@pytest.mark.parametrize("name", ["report.html", "report.json", "target.bank", "catalog.parquet"])
def test_a_file_of_the_user_is_never_replaced(rhm: Rhm, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("mine")
    code, printed, err = rhm("demo", "-o", tmp_path)
    assert (code, printed) == (2, "")
    told = f"{tmp_path / name} exists: choose another folder with --output"
    assert err == f"rhm: {told}\n"
    assert files_in(tmp_path) == {tmp_path / name: b"mine"}


def test_a_catalog_of_the_user_is_never_replaced(
    rhm: Rhm, domains: Path, catalog_path: Path, tmp_path: Path
) -> None:
    project = tmp_path / "project"
    Catalog.load(catalog_path).save(_made(project) / "catalog.parquet")
    kept = files_in(project)
    for words in ([], ["--data", domains]):
        code, _, err = rhm("demo", "-o", project, *words)
        assert (code, err.count("\n"), "choose another folder" in err) == (2, 1, True)
    assert files_in(project) == kept
    # The same images with other splits.
    _indexed_folder(domains, 1).save(project / "catalog.parquet")
    kept = files_in(project)
    assert rhm("demo", "-o", project, "--data", domains)[0] == 2
    assert files_in(project) == kept


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


@pytest.mark.parametrize("labelled", [0, 1])
def test_real_imagery_needs_labels_of_two_domains(
    rhm: Rhm, domains: Path, tmp_path: Path, labelled: int
) -> None:
    shutil.rmtree(domains / "birch_satellite" / "footprints")
    if not labelled:
        shutil.rmtree(domains / "alder_aerial" / "footprints")
    code, printed, err = rhm("demo", "--data", domains, "-o", tmp_path / "out")
    assert (code, printed, err.count("\n")) == (2, "", 1)
    assert f"labelled images of at least two domains, and finds {labelled}" in err
    assert not (tmp_path / "out").exists()


def test_a_source_that_is_not_there_is_one_line(rhm: Rhm, domains: Path, tmp_path: Path) -> None:
    for words, told in (
        (["--data", domains, "--source", "nowhere"], "no domain 'nowhere'"),
        (["--source", "nowhere"], "--source names a domain of your own imagery: add --data"),
    ):
        code, printed, err = rhm("demo", *words, "-o", tmp_path / "out")
        assert (code, printed, err.count("\n")) == (2, "", 1)
        assert told in err
        assert not (tmp_path / "out").exists()


def test_printed_commands_can_be_copied() -> None:
    scene = Path("my city/a.tif")
    story = Story(Path("c"), "a", ("b",), (scene,), None)
    line = _next(story, Path("r.html"), Path("my demo/predicted"))[-1]
    words = shlex.split(line.removeprefix("see the map: "))
    assert words == ["rhm", "view", "my demo/predicted", "--scene", "my city/a.tif"]
    nothing = Story(Path("c"), "a", ("b",), (), None)
    assert len(_next(nothing, Path("r.html"), Path("p"))) == 1
