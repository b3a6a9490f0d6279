"""What a prediction will do; laws: one fingerprint per prediction, every scene at its own grid."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rasterio.transform import Affine
from torch import Tensor, nn

from rhm.data.radiometry import Scaling
from rhm.data.rasters.georeference import ONE
from rhm.errors import ConfigError, ModelFileError, OutputError
from rhm.inference.plan import Outputs, Plan, plan_prediction
from rhm.inference.polygons import PolygonConfig
from rhm.inference.prediction_config import PredictionConfig
from rhm.inference.scene_lists.scene_names import NamedScene
from rhm.models.spec import ModelSpec
from tests.data.imagery import noise, write_raster

BYTES = Scaling("uint8", (0.0,) * 3, (255.0,) * 3)
SPEC = ModelSpec("unet", "resnet18", 3, scalings={"uint8": BYTES}, gsd_m=0.5, threshold=0.3)


class Network(nn.Module):
    """A network of one weight, with a description or without."""

    def __init__(self, spec: ModelSpec | None = SPEC, weight: float = 1.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(weight))
        if spec is not None:
            self.spec = spec

    def forward(self, images: Tensor) -> Tensor:
        return images[:, :1] * self.weight


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    return write_raster(tmp_path / "scene.tif", noise(90, 70))


def planned(scene: Path, model: Any = None, config: PredictionConfig | None = None) -> Plan:
    return plan_prediction(
        model or Network(), scene, scene.parent / "out", config or PredictionConfig()
    )


def test_files_are_named_after_the_scene(tmp_path: Path) -> None:
    outputs = Outputs.of("/data/a.b.tif", tmp_path, ".geojson")
    assert outputs.probability == tmp_path / "a.b_probability.tif"
    assert outputs.mask == tmp_path / "a.b_mask.tif"
    assert outputs.buildings == tmp_path / "a.b_buildings.geojson"
    assert outputs.unfinished.parent == tmp_path
    assert outputs.unfinished.name.startswith(".")


def test_planning_writes_nothing_and_predicts_nothing(scene: Path) -> None:
    class Never(Network):
        def forward(self, images: Tensor) -> Tensor:
            raise AssertionError("nothing was to be predicted")

    plan = planned(scene, Never())
    assert (plan.grid.height, plan.grid.width) == (90, 70)
    assert plan.notes == ()
    assert plan.polygons.threshold == plan.own_threshold == 0.3
    assert os.listdir(scene.parent) == ["scene.tif"]


def test_the_same_prediction_has_the_same_fingerprint(scene: Path) -> None:
    one, again = planned(scene), planned(scene)
    assert one.fingerprint == again.fingerprint
    assert one.task_fingerprint == again.task_fingerprint
    assert one.fingerprint != one.task_fingerprint


def test_workers_are_sent_the_path_that_leads_to_the_scene_from_any_folder(
    scene: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Addresses stay as they are."""
    plan = planned(scene)
    monkeypatch.chdir(scene.parent)
    by_name = planned(Path("scene.tif"))
    assert by_name.task == plan.task
    assert by_name.task.source.path == str(scene)
    assert by_name.task.digest == by_name.identity.digest
    assert by_name.fingerprint == plan.fingerprint
    address = f"file://{scene}"
    named = plan_prediction(Network(), address, scene.parent, PredictionConfig())
    assert named.task.source.path == address


CHANGES: dict[str, tuple[Any, PredictionConfig]] = {
    "weights": (Network(weight=2.0), PredictionConfig()),
    "description": (Network(replace(SPEC, mean=(0.4,))), PredictionConfig()),
    "tiling": (Network(), PredictionConfig(tile=64, overlap=16)),
    "bands": (Network(), PredictionConfig(bands=(3, 2, 1))),
    "nodata": (Network(), PredictionConfig(black_is_nodata=True)),
    "dtype": (Network(), PredictionConfig(dtype="uint8")),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_decides_the_probabilities_changes_both_fingerprints(scene: Path, change: str) -> None:
    plain, other = planned(scene), planned(scene, *CHANGES[change])
    assert other.task_fingerprint != plain.task_fingerprint
    assert other.fingerprint != plain.fingerprint


@pytest.mark.parametrize(
    "config",
    [
        PredictionConfig(polygons=PolygonConfig(0.9)),
        PredictionConfig(compress="zstd"),
        PredictionConfig(suffix=".geojson"),
    ],
)
def test_what_decides_the_results_alone_leaves_the_probabilities(
    scene: Path, config: PredictionConfig
) -> None:
    plain, other = planned(scene), planned(scene, config=config)
    assert other.task_fingerprint == plain.task_fingerprint
    assert other.fingerprint != plain.fingerprint


def test_another_scene_under_the_same_name_is_another_prediction(scene: Path) -> None:
    before = planned(scene).task_fingerprint
    write_raster(scene, noise(90, 70, seed=1))
    os.utime(scene, ns=(1, 1))
    assert planned(scene).task_fingerprint != before


@pytest.mark.parametrize(("gsd_m", "scale"), [(0.5, 1.0), (0.25, 2.0), (1.0, 0.5)])
def test_a_scene_is_brought_to_the_models_resolution_unless_told_otherwise(
    scene: Path, gsd_m: float, scale: float
) -> None:
    model = Network(replace(SPEC, gsd_m=gsd_m))
    plan = planned(scene, model)
    assert plan.task.source.scale == pytest.approx((scale, scale), rel=1e-2)
    assert any("it is resampled" in note for note in plan.notes) == (scale != 1.0)
    wanted = planned(scene, model, PredictionConfig(resample=True))
    assert (wanted.task, wanted.notes) == (plan.task, ())
    as_it_is = planned(scene, model, PredictionConfig(resample=False))
    assert as_it_is.task.source.scale == ONE
    assert any("predicted as it is" in note for note in as_it_is.notes) == (scale != 1.0)


def test_a_slightly_different_resolution_is_changed_only_when_asked(scene: Path) -> None:
    model = Network(replace(SPEC, gsd_m=0.45))
    assert planned(scene, model).task.source.scale == ONE
    assert planned(scene, model).notes == ()
    wanted = planned(scene, model, PredictionConfig(resample=True))
    assert wanted.task.source.scale == pytest.approx((0.5 / 0.45, 0.5 / 0.45), rel=1e-2)


# At 60 degrees north: 0.5 m from north to south, and 0.25 m from west to east.
DEGREES = Affine(0.25 / 55_800, 0, 20.0, 0, -0.5 / 111_412, 60.0)


@pytest.mark.parametrize(("gsd_m", "scale"), [(0.5, (1.0, 0.5)), (0.25, (2.0, 1.0)), (None, None)])
def test_pixels_that_are_not_square_are_made_so(
    tmp_path: Path, gsd_m: float | None, scale: tuple[float, float] | None
) -> None:
    scene = write_raster(tmp_path / "x.tif", noise(60, 80), crs="EPSG:4326", transform=DEGREES)
    model = Network(replace(SPEC, gsd_m=gsd_m))
    plan = planned(scene, model)
    # Without a size of its own, the model is given squares as large as the pixels.
    expected = scale or (2**0.5, 0.5**0.5)
    assert plan.task.source.scale == pytest.approx(expected, rel=1e-2)
    assert plan.grid.height == pytest.approx(60 * expected[0], abs=1)
    assert plan.grid.width == pytest.approx(80 * expected[1], abs=1)
    wanted = "square ones" if gsd_m is None else f"{gsd_m} m"
    *unknown, note = plan.notes
    assert note == (
        f"the pixels of the scene cover 0.25 x 0.5 m of ground, and the model expects {wanted}: it "
        "is resampled (--no-resample predicts it as it is)"
    )
    assert len(unknown) == (gsd_m is None)


def test_a_network_without_a_description_sees_a_scene_as_it_is_unless_asked(
    tmp_path: Path,
) -> None:
    scene = write_raster(tmp_path / "x.tif", noise(60, 80), crs="EPSG:4326", transform=DEGREES)
    plan = planned(scene, Network(None))
    assert plan.task.source.scale == ONE
    assert "predicted as it is" in plan.notes[0]
    wanted = planned(scene, Network(None), PredictionConfig(resample=True))
    assert wanted.task.source.scale == pytest.approx((2**0.5, 0.5**0.5), rel=1e-2)


def test_a_scene_without_a_place_is_noted(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "x.tif", noise(40, 40), crs=None)
    (areas, resolution) = planned(path).notes
    assert "square pixels" in areas
    assert "0.5 m" in resolution
    assert len(planned(path, Network(None)).notes) == 1


def test_what_a_catalog_says_of_a_scene_holds(tmp_path: Path) -> None:
    pixels = noise(40, 40)
    pixels[:, :10] = 0
    scene = write_raster(tmp_path / "x.tif", pixels, crs=None)
    told = NamedScene(str(scene), "x", black_is_nodata=True, gsd_m=1.0)
    plan = plan_prediction(Network(), told, tmp_path / "out", PredictionConfig())
    assert plan.task.source.scale == pytest.approx((2.0, 2.0))
    assert [note.split(":")[0] for note in plan.notes] == [
        "the scene has no coordinate reference system",
        "the scene has 1 m per pixel, and the model expects 0.5 m",
    ]
    with plan.task.source.open() as raster:
        valid = raster.read().valid
    assert not valid[:, :20].any()
    assert valid[:, 20:].all()
    assert plan.task_fingerprint != planned(scene).task_fingerprint
    # A file that specifies its resolution is believed.
    placed = write_raster(tmp_path / "y.tif", pixels)
    told = NamedScene(str(placed), "y", gsd_m=1.0)
    plan = plan_prediction(Network(), told, tmp_path / "out", PredictionConfig())
    assert plan.task.source.scale == ONE


def test_a_model_that_does_not_know_its_resolution_is_noted(scene: Path, tmp_path: Path) -> None:
    ignorant = Network(replace(SPEC, gsd_m=None))
    (note,) = planned(scene, ignorant).notes
    assert note.startswith("the resolution that the model expects is unknown, so the scene is not")
    # Scenes of all resolutions have one note, which is told once.
    other = write_raster(tmp_path / "x.tif", noise(40, 40), transform=Affine.scale(2.0, -2.0))
    assert planned(other, ignorant).notes == (note,)
    assert planned(scene, Network(None)).notes == ()
    nowhere = write_raster(tmp_path / "y.tif", noise(40, 40), crs=None)
    (areas,) = planned(nowhere, ignorant).notes
    assert "square pixels" in areas


def test_a_range_that_the_model_does_not_know_is_measured_and_noted(tmp_path: Path) -> None:
    pixels = noise(40, 40, dtype="uint16")
    plan = planned(write_raster(tmp_path / "x.tif", pixels))
    assert any("uint16" in note for note in plan.notes)
    table = plan.task.table.apply(pixels.astype(np.uint16))
    low, high = np.quantile(table, [0.05, 0.95])
    assert -1.1 < low < high < 1.1


def test_what_does_not_fit_is_said_before_anything_is_done(scene: Path) -> None:
    with pytest.raises(ModelFileError, match="4 bands, and 3 of"):
        planned(scene, Network(ModelSpec("unet", "resnet18", 4)))
    with pytest.raises(OutputError, match=r"\.dwg"):
        planned(scene, config=PredictionConfig(suffix=".dwg"))
    for option in ("dtype", "compress"):
        with pytest.raises(ConfigError, match="'sepia'"):
            PredictionConfig(**{option: "sepia"})  # type: ignore[arg-type]
    assert not (scene.parent / "out").exists()


def test_fitted_tiles_are_part_of_the_task(scene: Path) -> None:
    """Law: the tiles are as if they had been given, so strips can be resumed and sent elsewhere."""
    given_tiles = planned(scene, config=PredictionConfig(tile=64, overlap=16))
    fitted = planned(scene, config=PredictionConfig(tile=64, overlap=16, fit_tiles=True))
    assert (given_tiles.grid.tiling.tile, fitted.grid.tiling.tile) == (64, 96)
    assert fitted.task.tiling.overlap == 16
    same = planned(scene, config=PredictionConfig(tile=96, overlap=16))
    assert fitted.task == same.task
    assert fitted.task_fingerprint == same.task_fingerprint != given_tiles.task_fingerprint


@pytest.mark.parametrize(("memory", "tile"), [(None, 96), (1 << 40, 96), (1 << 20, 64)])
def test_fitted_tiles_fit_into_memory(
    scene: Path, monkeypatch: pytest.MonkeyPatch, memory: int | None, tile: int
) -> None:
    monkeypatch.setattr("rhm.inference.plan.memory_bytes", lambda: memory)
    config = PredictionConfig(tile=64, overlap=16, fit_tiles=True)
    assert planned(scene, config=config).grid.tiling.tile == tile
