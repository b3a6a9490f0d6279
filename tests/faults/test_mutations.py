"""Broken files; law: a command succeeds, or says in one line what is wrong.

It does so within seconds and two gigabytes. ``FAULTS`` in the environment is the number of
mutations of each kind of file; ``make fuzz`` sets it.
"""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio.shutil

from tests.faults.commands import Place
from tests.faults.mutations import Mutation, in_json, in_yaml, mutate
from tests.forked import Ended, rhm

MUTATIONS = int(os.environ.get("FAULTS", "3"))
SEED = int(os.environ.get("FAULTS_SEED", "0"))
MOST_BYTES = 2_000_000_000
MOST_SECONDS = 60.0

Prepared = tuple[Path, list[object]]


def _scene(place: Place) -> Prepared:
    scene = place.out / "scene.tif"
    shutil.copy(place.scene, scene)
    return scene, ["predict", place.run, scene, "-o", place.out / "predicted"]


def _inspected(place: Place) -> Prepared:
    scene, _ = _scene(place)
    return scene, ["data", "inspect", scene, "--model", place.run]


def _vrt(place: Place) -> Prepared:
    scene, _ = _scene(place)
    vrt = scene.with_suffix(".vrt")
    rasterio.shutil.copy(scene, vrt, driver="VRT")
    return vrt, ["predict", place.run, vrt, "-o", place.out / "predicted"]


def _stac(place: Place) -> Prepared:
    item = place.out / "item.json"
    asset = {"href": str(place.scene), "type": "image/tiff", "roles": ["data"]}
    values = {"type": "Feature", "stac_version": "1.0.0", "id": "a", "assets": {"visual": asset}}
    item.write_text(json.dumps(values | {"properties": {"datetime": None}, "links": []}))
    return item, ["predict", place.run, item, "-o", place.out / "predicted", "--dry-run"]


def _model(place: Place) -> Prepared:
    model = place.run / "model.safetensors"
    return model, ["predict", model, place.scene, "-o", place.out / "predicted"]


def _adapter(place: Place) -> Prepared:
    adapter = place.out / "adapter.safetensors"
    shutil.copy(place.adapted / "adapter.safetensors", adapter)
    return adapter, ["merge", place.run, adapter, "-o", place.out / "merged.safetensors"]


def _bank(place: Place) -> Prepared:
    bank = place.out / "a.bank"
    shutil.copy(place.bank, bank)
    return bank, ["bank", "show", bank]


def _catalog(place: Place) -> Prepared:
    catalog = place.out / "catalog.parquet"
    shutil.copy(place.catalog, catalog)
    return catalog, ["bank", "build", catalog, "-o", place.out / "new.bank"]


def _scores(place: Place) -> Prepared:
    scores = place.run / "evaluation" / "scores.json"
    return scores, ["report", place.run, "-o", place.out / "report.html"]


def _config(place: Place) -> Prepared:
    config = place.folder / "config.yaml"
    config.write_text(
        f"name: new\noutput: {place.out}\ndata:\n  catalog: nowhere.parquet\n  chip_px: 64\n"
        "augment:\n  gamma: [0.5, 2]\ntrainer:\n  steps: 2\n  batch_size: 2\nloss:\n  name: bce\n"
    )
    return config, ["train", config, "--quiet"]


def _area(place: Place) -> Prepared:
    import geopandas
    import rasterio
    import shapely

    with rasterio.open(place.scene) as scene:
        box = geopandas.GeoSeries([shapely.box(*scene.bounds)], crs=scene.crs)
    area = place.out / "area.geojson"
    box.to_crs("EPSG:4326").to_file(area)
    words = ("predict", place.run, place.scene, "-o", place.out / "predicted", "--aoi", area)
    return area, [*words]


def _layer(*words: object) -> Callable[[Place], Prepared]:
    def prepare(place: Place) -> Prepared:
        layer = place.out / "layer.gpkg"
        town = place.world / "birch_aerial" / "footprints"
        shutil.copy(town / "birch_aerial_00.gpkg", layer)
        return layer, [*words, layer, town / "birch_aerial_01.gpkg", "-o", place.out / "new.gpkg"]

    return prepare


def _labels(suffix: str) -> Callable[[Place], Prepared]:
    def prepare(place: Place) -> Prepared:
        import geopandas

        town = place.folder / "town"
        (town / "images").mkdir(parents=True)
        (town / "footprints").mkdir()
        name = "birch_aerial_00"
        source = place.world / "birch_aerial"
        shutil.copy(source / "images" / f"{name}.tif", town / "images")
        labels = town / "footprints" / f"{name}.{suffix}"
        geopandas.read_file(source / "footprints" / f"{name}.gpkg").to_file(labels)
        return labels, ["data", "index", "folder", town, "-o", place.out / "catalog.parquet"]

    return prepare


KINDS: dict[str, tuple[Callable[[Place], Prepared], tuple[Mutation, ...]]] = {
    "scene": (_scene, ()),
    "inspected": (_inspected, ()),
    "vrt": (_vrt, ()),
    "stac": (_stac, (in_json,)),
    "model": (_model, ()),
    "adapter": (_adapter, ()),
    "bank": (_bank, ()),
    "catalog": (_catalog, ()),
    "scores": (_scores, (in_json,)),
    "config": (_config, (in_yaml,)),
    "gpkg": (_labels("gpkg"), ()),
    "geojson": (_labels("geojson"), (in_json,)),
    "area": (_area, (in_json,)),
    "footprints": (_layer("merge-footprints"), ()),
    "map": (_layer("compare"), ()),
}
"""Kinds of files: what prepares one and the command that reads it, and how it can be broken."""


def told(ended: Ended) -> list[str]:
    faults = ended.faults
    if ended.peak_bytes > MOST_BYTES:
        faults.append(f"{ended.peak_bytes / 1e9:.1f} GB")
    return faults


@pytest.mark.parametrize("kind", KINDS)
def test_a_broken_file_is_one_line(place: Callable[[str], Place], kind: str) -> None:
    prepare, others = KINDS[kind]
    wrong = []
    for number in range(MUTATIONS):
        here = place(f"{kind}{number}")
        path, words = prepare(here)
        seed = [SEED, list(KINDS).index(kind), number]
        how = mutate(path, np.random.default_rng(seed), *others)
        ended = rhm(*words, timeout_s=MOST_SECONDS)
        if told(ended):
            kept = os.environ.get("FAULTS_KEEP")
            if kept:
                Path(kept).mkdir(parents=True, exist_ok=True)
                shutil.copy(path, Path(kept) / f"{kind}-{SEED}-{number}{path.suffix}")
            wrong.append(f"{number} ({how}): {', '.join(told(ended))}\n{ended.err[-1500:]}")
        left = here.files()
        assert not [name for name in left if "/.rhm." in f"/{name}"]
        shutil.rmtree(here.folder)
    assert not wrong, "\n".join(wrong)
