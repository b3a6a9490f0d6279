"""Exported models: read and fed as the QGIS plug-in Deepness does, they give rhm's own results."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray

from rhm.data.radiometry import Scaling
from rhm.data.rasters.gdal_options import quiet_about_georeference
from rhm.errors import ConfigError, ModelFileError, OutputError
from rhm.inference import export_onnx, predict_raster
from rhm.models.architectures import ARCHITECTURES
from rhm.models.spec import ModelSpec
from tests.inference.networks import built, needs_onnx

UINT8 = Scaling("uint8", (0.0,) * 3, (255.0,) * 3)
UINT16 = Scaling("uint16", (30.0, 200.0, 90.0, 10.0), (1500.0, 2047.0, 900.0, 60_000.0))
INT16 = Scaling("int16", (-300.0, -50.0, 0.0), (900.0, 2000.0, 4000.0))


class Deepness:
    """What the plug-in does with a file, written from its documentation and what it is seen to do.

    github.com/PUTvision/qgis-plugin-deepness, from version 0.6 on: ``model_base.py``,
    ``segmentor.py``, ``creators_add_metadata_to_model`` and ``creators_description_classes``.
    """

    def __init__(self, path: Path) -> None:
        import onnxruntime

        self.session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        (self.input,), (self.output,) = self.session.get_inputs(), self.session.get_outputs()
        self.metadata = self.session.get_modelmeta().custom_metadata_map
        self.tile = self.input.shape[-1]  # a number: the field of the tile size is set to it
        self.bands = self.input.shape[-3]

    def read(self, name: str) -> Any:
        """A metadatum; the plug-in's own default where the file has none."""
        return json.loads(self.metadata[name]) if name in self.metadata else None

    def class_names(self) -> list[str]:
        by_number = {int(key): name for key, name in self.read("class_names").items()}
        assert sorted(by_number) == list(range(len(by_number)))
        return [by_number[number] for number in sorted(by_number)]

    def probabilities(self, tiles: NDArray[Any]) -> NDArray[np.float32]:
        """Return (N, 1, H, W) of tiles (N, H, W, bands) as a raster stores them."""
        shares = np.float32(tiles[..., : self.bands] / 255.0)
        mean, std = (
            np.array(self.read(f"standardization_{name}"), np.float32) for name in ("mean", "std")
        )
        given = ((shares - mean) / std).transpose(0, 3, 1, 2)
        assert given.dtype == np.float32
        (result,) = self.session.run(None, {self.input.name: given})
        return np.asarray(result)

    def mask(self, tiles: NDArray[Any]) -> NDArray[np.bool_]:
        """Return (N, H, W): one channel is building where it reaches the threshold."""
        result = self.probabilities(tiles)
        result[result < self.read("seg_thresh")] = 0.0
        return np.asarray(result != 0.0)[:, 0]


def write(path: Path, pixels: NDArray[Any]) -> Path:
    height, width, bands = pixels.shape
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        height=height,
        width=width,
        count=bands,
        dtype=pixels.dtype,
        crs="EPSG:32633",
        transform=rasterio.Affine(0.5, 0, 5e5, 0, -0.5, 5e6),
    ) as raster:
        raster.write(np.moveaxis(pixels, -1, 0))
    return path


def noise(scaling: Scaling, side: int) -> NDArray[Any]:
    """An image in which values lie beyond black and white, too."""
    known = np.iinfo(scaling.dtype)
    ends = [
        (max(known.min, 1.3 * low - 0.3 * high), min(known.max, 1.3 * high - 0.3 * low))
        for low, high in zip(scaling.low, scaling.high, strict=True)
    ]
    rng = np.random.default_rng(0)
    bands = [rng.uniform(low, high, (side, side)) for low, high in ends]
    return np.stack(bands, axis=-1).astype(scaling.dtype)


@needs_onnx
@pytest.mark.parametrize(
    ("scaling", "encoder"),
    [(UINT8, "tf_efficientnet_lite0"), (UINT16, "test_resnet"), (INT16, "test_resnet")],
    ids=["uint8", "uint16", "int16"],
)
def test_fed_as_the_plugin_does_it_gives_what_predict_gives(
    tmp_path: Path, scaling: Scaling, encoder: str
) -> None:
    bands = len(scaling.low)
    model = built(
        encoder=encoder,
        bands=bands,
        scalings={scaling.dtype: scaling},
        mean=tuple(np.linspace(0.3, 0.6, bands).tolist()),
        std=tuple(np.linspace(0.2, 0.4, bands).tolist()),
        threshold=0.52,
        gsd_m=0.5,
    )
    written = export_onnx(model, tmp_path / "model.onnx", tile=96, overlap=32)
    assert written.dtype == scaling.dtype
    image = noise(scaling, 96)
    own = predict_raster(model, write(tmp_path / "x.tif", image), tmp_path, tile=96, overlap=0)
    with rasterio.open(own.probability) as probability, rasterio.open(own.mask) as mask:
        expected, masked = probability.read(1), mask.read(1)
    plugin = Deepness(written.path)
    tiles = np.stack([image, image[::-1], image[:, ::-1]])
    found = plugin.probabilities(tiles)
    assert found.shape == (3, 1, 96, 96)
    assert expected.std() > 0.0
    np.testing.assert_allclose(found[0, 0], expected, rtol=0, atol=1e-4)
    sure = np.abs(expected - 0.52) > 1e-4
    assert 0 < masked.sum() < masked.size
    np.testing.assert_array_equal(plugin.mask(tiles)[0][sure], masked[sure] == 1)


@needs_onnx
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_architecture_is_exported(architecture: str, tmp_path: Path) -> None:
    """Oracle: the model itself, on what the table of rhm's own path makes of the image."""
    import torch

    model = built(architecture, head="cosine", scalings={"uint8": UINT8}, gsd_m=0.3)
    written = export_onnx(model, tmp_path / "model.onnx", tile=128)
    tiles = np.stack([noise(UINT8, 128)] * 2)
    table = model.spec.input_table("uint8")
    given = torch.from_numpy(np.stack([table.apply(tile) for tile in tiles]))
    with torch.inference_mode():
        expected = model(given.permute(0, 3, 1, 2)).sigmoid().numpy()
    found = Deepness(written.path).probabilities(tiles)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)


@needs_onnx
def test_the_plugin_reads_what_the_model_is(tmp_path: Path) -> None:
    model = built(
        bands=4, scalings={"uint16": UINT16}, gsd_m=0.3, threshold=0.42, sources=("vegas",)
    )
    written = export_onnx(model, tmp_path / "model.onnx", tile=256, overlap=48)
    plugin = Deepness(written.path)
    assert plugin.read("model_type").capitalize() == "Segmentor"
    assert plugin.class_names() == ["background", "building"]
    assert plugin.read("resolution") == 30.0
    assert plugin.read("tiles_size") == plugin.read("tile_size") == plugin.tile == 256
    assert plugin.read("tiles_overlap") == 19
    assert int(256 * 19 / 100 * 2) // 2 >= 48
    assert plugin.read("seg_thresh") == 0.42
    assert plugin.read("seg_small_segment") == 0
    assert plugin.read("standardization_mean") == [0.0] * 4
    assert plugin.read("standardization_std") == [1.0] * 4
    assert plugin.input.shape == ["batch", 4, 256, 256]
    assert plugin.output.shape == ["batch", 1, 256, 256]
    assert plugin.input.type == plugin.output.type == "tensor(float)"
    assert plugin.metadata == dict(written.metadata)
    assert written.notes == ()


@needs_onnx
def test_the_file_describes_itself_and_is_readable_by_old_runtimes(tmp_path: Path) -> None:
    import onnx

    model = built(scalings={"uint8": UINT8}, sources=("here",), gsd_m=0.3)
    path = export_onnx(model, tmp_path / "out" / "model.onnx", tile=64, overlap=32).path
    assert [each.name for each in path.parent.iterdir()] == ["model.onnx"]
    file = onnx.load(path)
    onnx.checker.check_model(file, full_check=True)
    # ONNX Runtime 1.15 to 1.17, which the plug-in installs, know these.
    assert file.ir_version <= 8
    assert [(each.domain, each.version) for each in file.opset_import] == [("", 17)]
    assert file.producer_name == "rhm"
    properties = {each.key: each.value for each in file.metadata_props}
    assert ModelSpec.from_json(properties["rhm"]) == model.spec
    assert json.loads(properties["rhm_dtype"]) == "uint8"


@needs_onnx
def test_what_the_user_should_know_is_noted(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    known = built(scalings={"uint16": Scaling("uint16", (0.0,) * 3, (900.0,) * 3)})
    (note,) = export_onnx(known, path, tile=64, overlap=0).notes
    assert "set the resolution in the plug-in" in note
    plugin = Deepness(path)
    assert plugin.read("resolution") is None
    assert plugin.read("rhm_dtype") == "uint16"
    _, note = export_onnx(known, path, tile=64, overlap=0, dtype="uint8").notes
    assert "a value range only for uint16 imagery; 0 to 255 is assumed for uint8" in note
    white = np.full((1, 64, 64, 3), 255, np.uint8)
    sixteen = np.full((1, 64, 64, 3), 900, np.uint16)
    bright = Deepness(path).probabilities(white)
    export_onnx(known, path, tile=64, overlap=0, dtype="uint16")
    np.testing.assert_allclose(Deepness(path).probabilities(sixteen), bright, atol=1e-4)


@needs_onnx
@pytest.mark.parametrize(
    ("spec", "options", "error", "told"),
    [
        (
            {"standardize": "equalize"},
            {},
            ModelFileError,
            r"standardises whole scenes \(equalize\)",
        ),
        ({"classes": ("building", "edge")}, {}, ModelFileError, "has 2 classes"),
        (
            {},
            {"dtype": "uint16"},
            ModelFileError,
            "no value range for uint16 imagery: choose uint8",
        ),
        ({}, {"dtype": "float32"}, ConfigError, "choose uint8, uint16, int16"),
        ({}, {"tile": 100}, ConfigError, "multiple of 32"),
        ({}, {"tile": 0}, ConfigError, "multiple of 32"),
        ({}, {"tile": 9_999_968}, ConfigError, "multiple of 32 up to 4096, got 9999968"),
        ({}, {"overlap": 33}, ConfigError, r"half a tile \(32\), got 33"),
        ({}, {"overlap": -1}, ConfigError, "overlap"),
        ({}, {"opset": 7}, ConfigError, "between 13 and 20"),
        ({}, {"path": "model.pt"}, OutputError, r"the suffix must be \.onnx"),
        ({}, {"path": "file/model.onnx"}, OutputError, "cannot write"),
    ],
)
def test_what_cannot_be_exported_is_one_line_and_leaves_nothing(
    tmp_path: Path,
    spec: dict[str, Any],
    options: dict[str, Any],
    error: type[Exception],
    told: str,
) -> None:
    (tmp_path / "file").write_text("")
    path = tmp_path / options.pop("path", "model.onnx")
    with pytest.raises(error, match=told) as caught:
        export_onnx(built(**spec), path, **({"tile": 64, "overlap": 0} | options))
    assert "\n" not in str(caught.value)
    assert [each.name for each in tmp_path.iterdir()] == ["file"]


@needs_onnx
@pytest.mark.parametrize("opset", [13, 20])
def test_other_opsets(tmp_path: Path, opset: int) -> None:
    path = export_onnx(built(), tmp_path / "m.onnx", tile=64, overlap=0, opset=opset).path
    assert Deepness(path).probabilities(noise(UINT8, 64)[None]).shape == (1, 1, 64, 64)


@pytest.mark.parametrize("name", ["onnx", "onnxruntime"])
def test_without_the_extra_it_says_how_to_get_it(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ConfigError, match=r"pip install 'rhm\[onnx\]'"):
        export_onnx(built(), tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []


@needs_onnx
@pytest.mark.shared
def test_real_imagery_gives_what_predict_gives(shared_data: Path, tmp_path: Path) -> None:
    source = min((shared_data / "inria_austin").rglob("*.tif"))
    with quiet_about_georeference(), rasterio.open(source) as raster:
        image = np.moveaxis(raster.read([1, 2, 3], window=((0, 256), (0, 256))), 0, -1)
    assert image.dtype == np.uint8
    model = built(scalings={"uint8": UINT8}, gsd_m=0.5)
    path = export_onnx(model, tmp_path / "model.onnx", tile=256).path
    own = predict_raster(model, write(tmp_path / "x.tif", image), tmp_path, tile=256, overlap=0)
    with rasterio.open(own.probability) as probability:
        expected = probability.read(1)
    found = Deepness(path).probabilities(image[None])[0, 0]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)
