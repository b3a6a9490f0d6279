"""A model as one ONNX file that takes imagery as stored, and that says what it takes.

Written for the QGIS plug-in Deepness (github.com/PUTvision/qgis-plugin-deepness), which divides
what a raster stores by 255, whatever its type, applies ``standardization_mean`` and
``standardization_std``, and takes a model of one output channel to give probabilities.
"""

import json
import math
import os
from collections.abc import Mapping
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
from rhm.models.spec import ModelSpec

DTYPES = ("uint8", "uint16", "int16")
"""Types of imagery that an exported model can take."""

_STRIDE = 32
_OPSETS = range(13, 21)
_SUFFIX = ".onnx"


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        path: of the file.
        dtype: of the imagery that it takes.
        metadata: as it stands in the file; values are JSON.
        notes: what the user should know about it.
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
    """Write a model with its preprocessing as one ONNX file, complete or not at all.

    The file takes ``images`` (N, bands, tile, tile) float32, stored values divided by 255, and
    gives ``probability`` (N, 1, tile, tile) float32. Its metadata are those that Deepness reads,
    the model's own description as ``rhm``, and the imagery's type as ``rhm_dtype``. Before the
    file takes its name, ONNX Runtime's result is compared with the model's.

    Args:
        model: is moved to the CPU.
        path: of the file; ends with ``.onnx``.
        tile: side of a tile in pixels, a multiple of 32.
        overlap: pixels that neighbouring tiles share, at most half a tile; Deepness takes it in
            whole percent, so it is rounded up to one.
        dtype: of the imagery, one of ``DTYPES``; by default uint8, or what the model was
            trained on.
        opset: version of ONNX's operators, 13 to 20.

    Raises:
        ConfigError: an option is impossible, or the extra ``onnx`` is not installed.
        ModelFileError: the model standardises scenes, has several classes or no range for the
            type, or ONNX cannot express it.
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
        temporary.write_bytes(_described(graph, metadata, scaling.dtype))
    return Exported(path, scaling.dtype, metadata, tuple(_notes(spec, scaling.dtype)))


class _Whole(nn.Module):
    """From what the plug-in gives to what it takes."""

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
        return logits.sigmoid()


def _column(values: tuple[float, ...]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64).reshape(1, -1, 1, 1)


def _check_options(tile: int, overlap: int, dtype: str | None, opset: int) -> None:
    if tile < _STRIDE or tile % _STRIDE:
        raise ConfigError(f"tile must be a multiple of {_STRIDE}, not {tile}")
    if not 0 <= overlap <= tile // 2:
        raise ConfigError(f"overlap must be from 0 to half a tile, {tile // 2}, not {overlap}")
    if dtype is not None and dtype not in DTYPES:
        raise ConfigError(f"unknown dtype '{dtype}': choose {', '.join(DTYPES)}")
    if opset not in _OPSETS:
        raise ConfigError(f"opset must be from {_OPSETS[0]} to {_OPSETS[-1]}, not {opset}")


def _check_model(spec: ModelSpec) -> None:
    if spec.needs_histogram:
        raise ModelFileError(
            f"the model brings each scene to one appearance ({spec.standardize}), which takes the "
            "whole scene: a model of tiles cannot carry that; use `rhm predict`"
        )
    if len(spec.classes) != 1:
        raise ModelFileError(
            f"the model has {len(spec.classes)} classes: only models of one can be exported"
        )


def _scaling(spec: ModelSpec, dtype: str | None) -> Scaling:
    """Return the range in which the model is to see imagery."""
    known = [each for each in DTYPES if each in spec.scalings]
    dtype = dtype or next(iter(known), "uint8")
    scaling = spec.known_scaling(dtype)
    if scaling is None:
        raise ModelFileError(
            f"the model stores no range for {dtype} imagery: choose "
            f"{' or '.join(dict.fromkeys([*known, 'uint8']))}"
        )
    return scaling


def _metadata(spec: ModelSpec, scaling: Scaling, tile: int, overlap: int) -> dict[str, str]:
    values: dict[str, Any] = {
        "model_type": "Segmentor",
        # Older plug-ins name the background only where the file does, newer ones take either.
        "class_names": {"0": "background", "1": spec.classes[0]},
        # Their documentation says the one, their program reads the other.
        "tiles_size": tile,
        "tile_size": tile,
        "tiles_overlap": math.ceil(100 * overlap / tile),
        "seg_thresh": spec.threshold,
        "seg_small_segment": 0,
        # All of the preprocessing is in the file: what is left to the plug-in is nothing.
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
            "the model does not know its metres per pixel: set the resolution in the plug-in, "
            "which has 3 cm otherwise"
        )
    if spec.scalings and dtype not in spec.scalings:
        notes.append(
            f"the model stores the range of {' and '.join(sorted(spec.scalings))} imagery only; "
            f"{dtype} is taken as 0 to 255"
        )
    return notes


def _described(graph: bytes, metadata: Mapping[str, str], dtype: str) -> bytes:
    import onnx

    import rhm

    file = onnx.load_from_string(graph)
    onnx.helper.set_model_props(file, dict(metadata))
    file.producer_name, file.producer_version = "rhm", rhm.__version__
    file.doc_string = (
        f"images: {dtype} values divided by 255, bands in the order of training. "
        "probability: of each pixel to be building."
    )
    serialized: bytes = file.SerializeToString()
    return serialized
