"""Adding models to those that commands take by name, and removing them."""

import os
import re
import shutil
from pathlib import Path, PurePosixPath

from rhm.errors import ModelFileError, OutputError, one_line, printable
from rhm.files import staged_paths
from rhm.models.hub_card import card_of
from rhm.models.model_file import load_model
from rhm.models.named_models import (
    CARD,
    HASH,
    MODEL,
    NamedModel,
    check_name,
    find_named,
    home_of,
    is_name,
    model_file,
    named_models,
    own_folder,
    sha256_of,
)
from rhm.remote_files import fetched, is_address, without_secrets

_QUANTIZED = "model.int8-"
_LARGEST = 16 << 30


def add_model(
    source: str | os.PathLike[str], name: str | None = None, *, sha256: str | None = None
) -> NamedModel:
    """Check a model completely and copy it to the user's named models.

    Args:
        source: model file, or folder of a run or of a downloaded model that has
            ``model.safetensors`` and perhaps a model card; or the address of a model file, which
            is fetched.
        name: name of the model; by default, that of its run or file.
        sha256: hash that the model file must have, in hexadecimal digits.

    Raises:
        ModelFileError: the model cannot be read or has another hash, or the name is not possible
            or taken.
        OutputError: the folder of named models cannot be written.
    """
    if is_address(source):
        return _add_fetched(os.fspath(source), name, sha256)
    file = model_file(source)
    name = name or default_name(source)
    check_name(name)
    found = sha256_of(file)
    if sha256 is not None and found != sha256.strip().lower():
        raise ModelFileError(f"{file} has another SHA-256, {found}: fetch it again")
    load_model(file)
    target = own_folder() / name
    # The model last: a folder without one is no model.
    names = (CARD, HASH, MODEL)
    with staged_paths([target / each for each in names]) as (card, written, model):
        card.write_text(card_of(file), encoding="utf-8")
        written.write_text(f"{found}  {MODEL}\n", encoding="ascii")
        shutil.copyfile(file, model)
    return NamedModel(name, target, shipped=False)


def _add_fetched(address: str, name: str | None, sha256: str | None) -> NamedModel:
    shown = printable(without_secrets(address))
    stem = PurePosixPath(shown.partition("://")[2].partition("/")[2]).stem
    if name is None and stem == Path(MODEL).stem:
        raise ModelFileError(f"give the model of {shown} a name, with --name")
    if name is not None:
        check_name(name)
    try:
        with fetched(address, most_bytes=_LARGEST) as file:
            try:
                return add_model(file, name, sha256=sha256)
            except ModelFileError as error:
                # The user knows the address, and not its temporary copy.
                raise ModelFileError(str(error).replace(str(file), shown)) from error
    except OSError as error:
        raise ModelFileError(f"{shown} cannot be fetched: {one_line(error)}") from error


def remove_model(name: str) -> None:
    """Remove a model that the user has added.

    Only what ``add_model`` and quantisation wrote is removed. A folder that is a link is left as it
    is, and only the link to it is removed.

    Raises:
        ModelFileError: there is no such model, it came with rhm, or its folder has other files.
        OutputError: it cannot be removed.
    """
    shipped = {each.name for each in named_models() if each.shipped}
    if name in shipped:
        raise ModelFileError(f"{name} came with rhm, and is removed with it")
    folder = own_folder() / name
    if not is_name(name) or not os.path.lexists(folder):
        raise ModelFileError(f"no model is named {name}: `rhm models` lists all")
    try:
        if folder.is_symlink():
            folder.unlink()
            return
        files = sorted(folder.iterdir(), key=lambda path: path.name != MODEL)
        others = [path.name for path in files if not _is_ours(path)]
        if others:
            raise ModelFileError(
                f"{folder} has files that are not those of a model, such as "
                f"{printable(others[0])}: remove it yourself"
            )
        # The model first, so that what is left after an interruption is no model.
        for path in files:
            path.unlink()
        folder.rmdir()
    except OSError as error:
        raise OutputError(f"cannot remove {folder}: {error.strerror or error}") from error


def _is_ours(path: Path) -> bool:
    quantized = path.name.startswith(_QUANTIZED) and path.suffix == ".json"
    return (path.name in (MODEL, CARD, HASH) or quantized) and not path.is_dir()


def default_name(source: str | os.PathLike[str]) -> str:
    """Return the name that a model has unless it is given another: that of its run or file.

    A model that is given by name keeps it. The result is empty if nothing of the name of the file
    can be part of that of a model.

    Args:
        source: model file, folder of a run or of a model, or name of a model.
    """
    named = find_named(source)
    if named is not None:
        return named.name
    path = Path(source).resolve()
    stem = home_of(path).name if path.is_dir() or path.stem == "model" else path.stem
    return re.sub(r"[^a-z0-9._-]+", "-", stem.lower()).strip("._-")
