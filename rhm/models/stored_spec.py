"""The description in the header of a model file, read without the weights and without PyTorch."""

import os
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open

from rhm.errors import ModelFileError, one_line
from rhm.models.named_models import model_file
from rhm.models.spec import ModelSpec

KEY = "rhm"
"""Name of the description among the texts in the header."""


def load_spec(path: str | os.PathLike[str]) -> ModelSpec:
    """Read only the description in a model file.

    Args:
        path: model file, folder of a run that contains ``model.safetensors``, or name of a model.

    Raises:
        ModelFileError: the file is missing, damaged, not a model file, or of an unknown version.
    """
    file = model_file(path)
    try:
        with safe_open(file, framework="numpy") as archive:
            texts: Mapping[str, str] = archive.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise not_a_model(file, error) from error
    return spec_in(texts, file)


def spec_in(texts: Mapping[str, str], file: Path) -> ModelSpec:
    """Return the description among the texts in the header of a model file.

    Raises:
        ModelFileError: there is none, or it cannot be read.
    """
    if KEY not in texts:
        raise ModelFileError(f"{file} has tensors but no description: it was not written by rhm")
    try:
        return ModelSpec.from_json(texts[KEY])
    except ModelFileError as error:
        raise ModelFileError(f"{file}: {error}") from error


def not_a_model(file: Path, error: Exception) -> ModelFileError:
    """Return the error for a file that cannot be read as a model."""
    return ModelFileError(f"{file} is not a model file: {one_line(error)}")
