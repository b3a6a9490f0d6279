"""The one file that is a model: safetensors whose header holds the description."""

import os
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from rhm.errors import ModelFileError
from rhm.files import atomic_path
from rhm.models.build import SegmentationModel
from rhm.models.spec import ModelSpec

_KEY = "rhm"


def save_model(model: SegmentationModel, path: str | os.PathLike[str]) -> None:
    """Write weights and description to one file, complete or not at all.

    Raises:
        OutputError: the file cannot be written.
    """
    tensors = {name: each.detach().contiguous() for name, each in model.state_dict().items()}
    with atomic_path(path) as temporary:
        save_file(tensors, temporary, metadata={_KEY: model.spec.to_json()})


def load_model(path: str | os.PathLike[str]) -> SegmentationModel:
    """Read a model file, ready for inference (``eval`` mode, on the CPU).

    Args:
        path: the file, or the folder of a run that holds ``model.safetensors``.

    Raises:
        ModelFileError: the file is missing, damaged, or not a model of a version known here.
    """
    file = _file(path)
    try:
        with safe_open(file, framework="pt") as archive:
            metadata = archive.metadata() or {}
            tensors = {name: archive.get_tensor(name) for name in archive.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise ModelFileError(f"{file} is not a model file: {error}") from error
    if _KEY not in metadata:
        raise ModelFileError(f"{file} holds tensors but no description: rhm did not write it")
    model = SegmentationModel(ModelSpec.from_json(metadata[_KEY]))
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        raise ModelFileError(f"{file}: its tensors do not fit its description") from error
    return model.eval()


def load_spec(path: str | os.PathLike[str]) -> ModelSpec:
    """Read only the description of a model file.

    Raises:
        ModelFileError: the file is missing, damaged, or not a model of a version known here.
    """
    file = _file(path)
    try:
        with safe_open(file, framework="numpy") as archive:
            metadata = archive.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise ModelFileError(f"{file} is not a model file: {error}") from error
    if _KEY not in metadata:
        raise ModelFileError(f"{file} holds tensors but no description: rhm did not write it")
    return ModelSpec.from_json(metadata[_KEY])


def _file(path: str | os.PathLike[str]) -> Path:
    file = Path(path)
    if file.is_dir():
        file = file / "model.safetensors"
    if not file.is_file():
        raise ModelFileError(f"no model at {path}: train one with `rhm train`")
    return file
