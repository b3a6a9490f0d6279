"""Export of a model, with its preprocessing and a description, to one ONNX file.

The file is made for the QGIS plug-in Deepness (github.com/PUTvision/qgis-plugin-deepness). The
plug-in divides stored values by 255, whatever their dtype, applies ``standardization_mean`` and
``standardization_std``, and expects probabilities from a model with one output channel, and of
each class from one with several.
"""

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rhm.data.radiometry import Scaling
from rhm.errors import ConfigError, ModelFileError, OutputError
from rhm.files import atomic_path
from rhm.inference.runtime.onnx_graph import (
    OPSET,
    check_graph,
    graph_of,
    run,
    session_of,
)
from rhm.inference.runtime.runtimes import RUNTIMES
from rhm.inference.settings.tile_config import Tiling
from rhm.models.build import SegmentationModel
from rhm.models.building_classes import class_probabilities, separation_of
from rhm.models.spec import ModelSpec

DTYPES = ("uint8", "uint16", "int16")
"""Types of imagery that an exported model can take."""

MOST_TILE_PX = 4096
"""Side of the largest tile, whose graph is traced and tried in full size."""

_STRIDE = 32
_OPSETS = range(13, 21)
_SUFFIX = ".onnx"


@dataclass(frozen=True)
class Exported:
    """An exported model.

    Attributes:
        path: path of the file.
        dtype: dtype of the imagery that the model takes.
        metadata: metadata of the file, by name; values are JSON.
        notes: facts about the file that the user should know.
    """

    path: Path
    dtype: str
    metadata: Mapping[str, str]
    notes: tuple[str, ...] = ()


def export_onnx(
    model: SegmentationModel,
    path: str | os.PathLike[str],
    *,
    tile: int = Tiling.tile,
    overlap: int = Tiling.overlap,
    dtype: str | None = None,
    opset: int = OPSET,
) -> Exported:
    """Write a model with its preprocessing to one ONNX file, either completely or not at all.

    The input is ``images`` (N, bands, tile, tile) float32, stored values divided by 255, and the
    output is ``probability`` (N, 1, tile, tile) float32; for a model with K classes, it is the
    probability of each class, (N, K, tile, tile). The metadata are those that Deepness
    reads, the description of the model as ``rhm``, and the dtype of the imagery as ``rhm_dtype``.
    Before the file appears under its name, the result of ONNX Runtime is compared with that of the
    model.

    Args:
        model: model, moved to the CPU in place.
        path: path of the file, with the suffix ``.onnx``.
        tile: side of a tile in pixels, a multiple of 32 up to ``MOST_TILE_PX``.
        overlap: overlap of neighbouring tiles in pixels, at most half a tile; it is rounded up to
            whole percent of a tile for Deepness.
        dtype: dtype of the imagery, one of ``DTYPES``; by default that of the training imagery, or
            uint8.
        opset: version of the ONNX operators, 13 to 20.

    Raises:
        ConfigError: an option is invalid, or the extra ``onnx`` is not installed.
        ModelFileError: the model standardises scenes, stores no value range for the dtype, or
            cannot be expressed in ONNX.
        OutputError: the file cannot be written.
    """
    RUNTIMES["onnx"].require()
    _check_options(tile, overlap, dtype, opset)
    path, spec = Path(path), model.spec
    if path.suffix.lower() != _SUFFIX:
        raise OutputError(f"cannot write {path}: the suffix must be {_SUFFIX}")
    _check_model(spec)
    scaling = _scaling(spec, dtype)
    whole = _Whole(model.cpu().eval(), scaling).eval()
    images = torch.rand(2, spec.bands, tile, tile, generator=torch.Generator().manual_seed(0))
    images = images * max(scaling.high) / 255.0
    names = ("images", "probability")
    graph = graph_of(whole, images[:1], dynamic={0: "batch"}, names=names, opset=opset)
    check_graph(partial(run, session_of(graph)), whole, images, logits=False)
    metadata = _metadata(spec, scaling, tile, overlap)
    with atomic_path(path) as temporary:
        temporary.write_bytes(_described(graph, metadata, scaling.dtype, spec.classes))
    return Exported(path, scaling.dtype, metadata, tuple(_notes(spec, scaling.dtype)))


class _Whole(nn.Module):
    """The model from the input to the output of the plug-in."""

    black: Tensor
    gain: Tensor
    mean: Tensor
    std: Tensor

    def __init__(self, model: SegmentationModel, scaling: Scaling) -> None:
        super().__init__()
        self.model = model
        low, high = _column(scaling.low), _column(scaling.high)
        mean, std = _column(model.spec.mean), _column(model.spec.std)
        for name, values in {
            "black": low / 255.0,
            "gain": 255.0 / (high - low),
            "mean": mean,
            "std": std,
        }.items():
            self.register_buffer(name, values.float(), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        shares = ((images - self.black) * self.gain).clamp(0.0, 1.0)
        logits: Tensor = self.model((shares - self.mean) / self.std)
        return class_probabilities(logits)


def _column(values: tuple[float, ...]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64).reshape(1, -1, 1, 1)


def _check_options(tile: int, overlap: int, dtype: str | None, opset: int) -> None:
    if not _STRIDE <= tile <= MOST_TILE_PX or tile % _STRIDE:
        raise ConfigError(f"tile must be a multiple of {_STRIDE} up to {MOST_TILE_PX}, got {tile}")
    if not 0 <= overlap <= tile // 2:
        raise ConfigError(f"overlap must be between 0 and half a tile ({tile // 2}), got {overlap}")
    if dtype is not None and dtype not in DTYPES:
        raise ConfigError(f"unknown dtype '{dtype}': choose {', '.join(DTYPES)}")
    if opset not in _OPSETS:
        raise ConfigError(f"opset must be between {_OPSETS[0]} and {_OPSETS[-1]}, got {opset}")


def _check_model(spec: ModelSpec) -> None:
    if spec.needs_histogram:
        raise ModelFileError(
            f"the model standardises whole scenes ({spec.standardize}), which an exported model of "
            "tiles cannot do: use `rhm predict`"
        )
    if separation_of(spec.classes) is None:
        raise ModelFileError(
            f"the model has {len(spec.classes)} classes ({', '.join(spec.classes)}): only models "
            "of buildings can be exported"
        )


def _scaling(spec: ModelSpec, dtype: str | None) -> Scaling:
    """Return the value range of the imagery that the exported model takes."""
    known = [name for name in DTYPES if name in spec.scalings]
    dtype = dtype or next(iter(known), "uint8")
    scaling = spec.known_scaling(dtype)
    if scaling is None:
        raise ModelFileError(
            f"the model stores no value range for {dtype} imagery: choose "
            f"{' or '.join(dict.fromkeys([*known, 'uint8']))}"
        )
    return scaling


def _metadata(spec: ModelSpec, scaling: Scaling, tile: int, overlap: int) -> dict[str, str]:
    # Older versions of the plug-in need the background, newer versions accept it.
    names = spec.classes if len(spec.classes) > 1 else ("background", *spec.classes)
    values: dict[str, Any] = {
        "model_type": "Segmentor",
        "class_names": {str(number): name for number, name in enumerate(names)},
        # The documentation of the plug-in names the first, its code reads the second.
        "tiles_size": tile,
        "tile_size": tile,
        "tiles_overlap": math.ceil(100 * overlap / tile),
        "seg_thresh": spec.threshold,
        "seg_small_segment": 0,
        # The file contains all of the preprocessing, so the plug-in must not change anything.
        "standardization_mean": [0.0] * spec.bands,
        "standardization_std": [1.0] * spec.bands,
        "rhm_dtype": scaling.dtype,
    }
    if spec.gsd_m is not None:
        values["resolution"] = round(100.0 * spec.gsd_m, 6)
    return {name: json.dumps(value) for name, value in values.items()} | {"rhm": spec.to_json()}


def _notes(spec: ModelSpec, dtype: str) -> list[str]:
    notes = []
    if spec.gsd_m is None:
        notes.append(
            "the model does not record its ground sampling distance: set the resolution in the "
            "plug-in, whose default is 3 cm"
        )
    if spec.scalings and dtype not in spec.scalings:
        notes.append(
            f"the model stores a value range only for {' and '.join(sorted(spec.scalings))} "
            f"imagery; 0 to 255 is assumed for {dtype}"
        )
    return notes


def _described(
    graph: bytes, metadata: Mapping[str, str], dtype: str, classes: Sequence[str]
) -> bytes:
    import onnx

    import rhm

    file = onnx.load_from_string(graph)
    onnx.helper.set_model_props(file, dict(metadata))
    file.producer_name, file.producer_version = "rhm", rhm.__version__
    file.doc_string = (
        f"images: {dtype} values divided by 255, bands in the order of training. "
        f"probability: of each pixel to be {' / '.join(classes)}."
    )
    serialized: bytes = file.SerializeToString()
    return serialized
