"""Model files: safetensors files whose header contains the model's description."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from rhm.adapters import load_adapter, merge, save_adapter
from rhm.adapters.adapter_file import adapter_notes
from rhm.errors import ModelFileError
from rhm.files import atomic_path
from rhm.models.build import SegmentationModel
from rhm.models.named_models import model_file
from rhm.models.spec import KEY, ModelSpec, check_classes, not_a_model, spec_in
from rhm.tensor_files import TensorFile, TensorLayout, open_tensors


def save_model(
    model: SegmentationModel, path: str | os.PathLike[str], *, half: bool = False
) -> None:
    """Write weights and description to one file, either completely or not at all.

    Args:
        model: model to write.
        path: model file.
        half: whether matrices and kernels are stored as float16, which halves the file. Vectors,
            such as the statistics of normalisation layers, keep their type; models are always
            loaded as float32.

    Raises:
        ModelFileError: a weight is not finite, or with ``half`` too large, or the model has several
            classes that are not those of buildings.
        OutputError: the file cannot be written.
    """
    check_classes(model.spec, Path(path))
    tensors = {name: tensor.detach().contiguous() for name, tensor in model.state_dict().items()}
    if half:
        tensors = {
            name: tensor.half() if tensor.is_floating_point() and tensor.ndim > 1 else tensor
            for name, tensor in tensors.items()
        }
    _check_finite(tensors, path)
    with atomic_path(path) as temporary:
        save_file(tensors, temporary, metadata={KEY: model.spec.to_json()})


def save_adapted(model: SegmentationModel, path: str | os.PathLike[str]) -> None:
    """Write a model's adapter and description, without the weights of its base.

    Raises:
        ConfigError: the model has no adapter.
        ModelFileError: a weight is not finite.
        OutputError: the file cannot be written.
    """
    save_adapter(model, path, notes={KEY: model.spec.to_json()})


def load_model(
    path: str | os.PathLike[str], *, adapter: str | os.PathLike[str] | None = None
) -> SegmentationModel:
    """Read a model file and return the model for inference (``eval`` mode, on the CPU).

    Args:
        path: model file, folder of a run that contains ``model.safetensors``, or name of a model.
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
    if KEY in notes:
        model.spec = _adapted_spec(model.spec, notes[KEY], adapter)
    return model.eval()


def _load(file: Path) -> SegmentationModel:
    with _opened(file) as archive:
        model = _planned(spec_in(archive.metadata, file))
        wanted = {name: TensorLayout.of(each) for name, each in model.state_dict().items()}
        try:
            archive.check(wanted)
        except ValueError as error:
            raise ModelFileError(f"{file}: its tensors do not fit its description: {error}") from (
                error
            )
        # Only now, when the file is known to fill it, does the network take memory.
        model = _allocated(model)
        for name, tensor in model.state_dict().items():
            tensor.copy_(_finite(archive, name, file))
    return model.eval()


def _planned(spec: ModelSpec) -> SegmentationModel:
    """Return the network of a description without memory for its weights."""
    with torch.device("meta"):
        return SegmentationModel(spec)


def _allocated(model: SegmentationModel) -> SegmentationModel:
    """Return a planned network with memory for its weights, which may have any values."""
    state = {id(tensor) for tensor in model.state_dict(keep_vars=True).values()}
    buffers = {id(buffer) for buffer in model.buffers()}
    constants = any(
        isinstance(value, Tensor) for module in model.modules() for value in vars(module).values()
    )
    if buffers <= state and not constants:
        return model.to_empty(device="cpu")
    # Something that no file stores, such as a table of positions, is computed by building.
    return SegmentationModel(model.spec)


@contextmanager
def _opened(file: Path) -> Iterator[TensorFile]:
    try:
        with open_tensors(file) as archive:
            yield archive
    except (ValueError, OSError) as error:
        raise not_a_model(file, error) from error


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
    for name, tensor in tensors.items():
        if not tensor.isfinite().all():
            raise _diverged(name, path)


def _finite(archive: TensorFile, name: str, file: Path) -> Tensor:
    try:
        return archive.read(name)
    except ValueError as error:
        raise _diverged(name, file) from error


def _diverged(name: str, path: str | os.PathLike[str]) -> ModelFileError:
    return ModelFileError(
        f"{path}: {name} is not finite: training diverged; lower the learning rate and train again"
    )


def adapter_file(path: str | os.PathLike[str]) -> Path:
    """Return the path of an adapter file, which may be given as the folder of its run."""
    return Path(path) / "adapter.safetensors" if os.path.isdir(path) else Path(path)
