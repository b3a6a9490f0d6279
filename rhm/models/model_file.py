"""Model files: safetensors files whose header contains the model's description."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from rhm.adapters import load_adapter, merge, save_adapter
from rhm.adapters.adapter_file import adapter_notes
from rhm.errors import ModelFileError
from rhm.files import atomic_path
from rhm.models.build import SegmentationModel
from rhm.models.spec import ModelSpec

_KEY = "rhm"


def save_model(model: SegmentationModel, path: str | os.PathLike[str]) -> None:
    """Write weights and description to one file, either completely or not at all.

    Raises:
        ModelFileError: a weight is not finite.
        OutputError: the file cannot be written.
    """
    tensors = {name: tensor.detach().contiguous() for name, tensor in model.state_dict().items()}
    _check_finite(tensors, path)
    with atomic_path(path) as temporary:
        save_file(tensors, temporary, metadata={_KEY: model.spec.to_json()})


def save_adapted(model: SegmentationModel, path: str | os.PathLike[str]) -> None:
    """Write a model's adapter and description, without the weights of its base.

    Raises:
        ConfigError: the model has no adapter.
        ModelFileError: a weight is not finite.
        OutputError: the file cannot be written.
    """
    save_adapter(model, path, notes={_KEY: model.spec.to_json()})


def load_model(
    path: str | os.PathLike[str], *, adapter: str | os.PathLike[str] | None = None
) -> SegmentationModel:
    """Read a model file and return the model for inference (``eval`` mode, on the CPU).

    Args:
        path: model file, or folder of a run that contains ``model.safetensors``.
        adapter: file from ``save_adapted``, or folder of a run that contains
            ``adapter.safetensors``; the adapter is merged into the model's weights.

    Raises:
        ModelFileError: a file is missing, damaged, or of an unknown version, or the adapter was
            made for another model.
    """
    model = _load(model_file(path))
    if adapter is None:
        return model
    adapter = adapter_file(adapter)
    load_adapter(model, adapter)
    merge(model)
    notes = adapter_notes(adapter)
    if _KEY in notes:
        model.spec = _adapted_spec(model.spec, notes[_KEY], adapter)
    return model.eval()


def _load(file: Path) -> SegmentationModel:
    with _opened(file) as archive:
        model = SegmentationModel(_spec(archive, file))
        tensors = {name: archive.get_tensor(name) for name in archive.keys()}  # noqa: SIM118
    _check_finite(tensors, file)
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        raise ModelFileError(f"{file}: its tensors do not fit its description") from error
    return model.eval()


def load_spec(path: str | os.PathLike[str]) -> ModelSpec:
    """Read only the description in a model file.

    Raises:
        ModelFileError: the file is missing, damaged, not a model file, or of an unknown version.
    """
    file = model_file(path)
    with _opened(file) as archive:
        return _spec(archive, file)


@contextmanager
def _opened(file: Path) -> Iterator[Any]:
    try:
        with safe_open(file, framework="pt") as archive:
            yield archive
    except (SafetensorError, OSError) as error:
        raise ModelFileError(f"{file} is not a model file: {error}") from error


def _spec(archive: Any, file: Path) -> ModelSpec:
    metadata = archive.metadata() or {}
    if _KEY not in metadata:
        raise ModelFileError(f"{file} has tensors but no description: it was not written by rhm")
    try:
        return ModelSpec.from_json(metadata[_KEY])
    except ModelFileError as error:
        raise ModelFileError(f"{file}: {error}") from error


def _adapted_spec(base: ModelSpec, text: str, path: str | os.PathLike[str]) -> ModelSpec:
    """Read the description of an adapted model, and check that it has the base's network."""
    try:
        spec = ModelSpec.from_json(text)
    except ModelFileError as error:
        raise ModelFileError(f"{path}: {error}") from error
    for name in ("architecture", "encoder", "bands", "classes", "head", "mean", "std"):
        if getattr(spec, name) != getattr(base, name):
            raise ModelFileError(
                f"{path} describes another network: its {name} differs from the model's"
            )
    return spec


def _check_finite(tensors: Mapping[str, Tensor], path: str | os.PathLike[str]) -> None:
    broken = [name for name, tensor in tensors.items() if not tensor.isfinite().all()]
    if broken:
        raise ModelFileError(
            f"{path}: {len(broken)} of {len(tensors)} tensors are not finite, the first one is "
            f"{broken[0]}: training diverged; lower the learning rate and train again"
        )


def model_file(path: str | os.PathLike[str]) -> Path:
    """Return the path of a model file, which may be given as the folder of its run.

    Raises:
        ModelFileError: there is no model file.
    """
    file = Path(path)
    if file.is_dir():
        file = file / "model.safetensors"
    if not file.is_file():
        raise ModelFileError(f"no model at {path}: train one with `rhm train`")
    return file


def adapter_file(path: str | os.PathLike[str]) -> Path:
    """Return the path of an adapter file, which may be given as the folder of its run."""
    return Path(path) / "adapter.safetensors" if Path(path).is_dir() else Path(path)
