"""``rhm demo``: how it reads real imagery, and the whole workflow with two training steps."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import geopandas

from rhm.cli.commands.demo import METHODS, _real, _train
from rhm.data import Catalog

Rhm = Callable[..., tuple[int, str, str]]


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
    story = _real(tmp_path, data, None, seed=0)
    assert (story.source, story.targets) == ("much", ("little",))
    catalog = Catalog.load(story.catalog)
    others = catalog.select(domains=["little"]).tiles
    (scene,) = story.scenes
    densest = max(others, key=lambda tile: tile.building_fraction or 0.0)
    assert scene == densest.image
    assert _real(tmp_path, data, "little", seed=0).source == "little"


def test_the_story_is_told_to_the_end(rhm: Rhm, world: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    for domain in ("alder_aerial", "birch_satellite"):
        shutil.copytree(world / domain, data / domain)
    words = ["demo", "--data", data, "--source", "alder_aerial", "--steps", 2]
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
    code, printed, err = rhm(*words, "-o", tmp_path / "out")
    assert code == 0, err
    moral = [line for line in printed.splitlines() if "with the bank" in line]
    assert [line.partition(" (")[0] for line in moral] == ["alder_aerial", "birch_satellite"]
    assert printed.splitlines()[-1].startswith("see the map: rhm view ")
    # What is trained is not trained again.
    models = sorted((tmp_path / "out" / "runs").glob("*/model.safetensors"))
    before = [path.stat().st_mtime_ns for path in models]
    out = tmp_path / "out"
    story = _real(out, data, "alder_aerial", seed=0)
    for method in METHODS:
        _train(method, story, out / "target.bank", out, steps=2, seed=0)
    assert [path.stat().st_mtime_ns for path in models] == before
    assert len(models) == len(METHODS)
