"""Adding models to those that commands take by name, and removing them."""

import os
import re
import shutil
from pathlib import Path

from rhm.errors import ModelFileError, OutputError
from rhm.files import staged_paths
from rhm.models.model_file import load_model
from rhm.models.named_models import (
    CARD,
    HASH,
    MODEL,
    NamedModel,
    check_name,
    home_of,
    model_file,
    named_models,
    own_folder,
    sha256_of,
)

_MOST_CARD_BYTES = 1 << 20


def add_model(
    source: str | os.PathLike[str], name: str | None = None, *, sha256: str | None = None
) -> NamedModel:
    """Check a model completely and copy it to the user's named models.

    Args:
        source: model file, or folder of a run or of a downloaded model that has
            ``model.safetensors`` and perhaps a model card.
        name: name of the model; by default, that of its run or file.
        sha256: hash that the model file must have, in hexadecimal digits.

    Raises:
        ModelFileError: the model cannot be read or has another hash, or the name is not possible
            or taken.
        OutputError: the folder of named models cannot be written.
    """
    file = model_file(source)
    name = name or _default_name(source)
    check_name(name)
    found = sha256_of(file)
    if sha256 is not None and found != sha256.strip().lower():
        raise ModelFileError(f"{file} has another SHA-256, {found}: fetch it again")
    load_model(file)
    target = own_folder() / name
    # The model last: a folder without one is no model.
    names = (CARD, HASH, MODEL)
    with staged_paths([target / each for each in names]) as (card, written, model):
        card.write_bytes(card_of(file))
        written.write_text(f"{found}  {MODEL}\n", encoding="ascii")
        shutil.copyfile(file, model)
    return NamedModel(name, target, shipped=False)


def remove_model(name: str) -> None:
    """Remove a model that the user has added.

    Raises:
        ModelFileError: there is no such model, or it came with rhm.
        OutputError: it cannot be removed.
    """
    found = next((each for each in named_models() if each.name == name), None)
    if found is None:
        raise ModelFileError(f"no model is named {name}: `rhm models` lists all")
    if found.shipped:
        raise ModelFileError(f"{name} came with rhm, and is removed with it")
    try:
        # First, so that what is left after an interruption is no model.
        found.file.unlink()
        shutil.rmtree(found.folder)
    except OSError as error:
        raise OutputError(f"cannot remove {found.folder}: {error.strerror or error}") from error


def _default_name(source: str | os.PathLike[str]) -> str:
    path = Path(source).resolve()
    stem = home_of(path).name if path.is_dir() or path.stem == "model" else path.stem
    return re.sub(r"[^a-z0-9._-]+", "-", stem.lower()).strip("._-")


def card_of(file: Path) -> bytes:
    """Return the card beside a model file, or the beginning of one without further facts."""
    for name in (CARD, "README.md"):
        card = file.with_name(name)
        if file.name == MODEL and card.is_file():
            with card.open("rb") as opened:
                return opened.read(_MOST_CARD_BYTES)
    return b""
