"""Models by name: those that come with rhm, and those that users have added to their own.

    rhm/models/shipped/NAME/model.safetensors, card.md          part of the installation, only read
    FOLDER/NAME/model.safetensors, card.md, model.sha256        added with ``rhm models add``

``FOLDER`` is the folder for the data of programs that the system gives each user, or the one that
the environment variable ``RHM_MODELS`` names. The path of a model or run takes precedence over a
name.
"""

import hashlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from rhm.errors import ModelFileError
from rhm.files import is_temporary
from rhm.remote_files import PROTOCOLS

VARIABLE = "RHM_MODELS"
"""Environment variable with the folder of the models that a user has added."""

MODEL, CARD, HASH = "model.safetensors", "card.md", "model.sha256"
"""Names of the files of a named model: weights and description, model card, and SHA-256."""

_SHIPPED = Path(__file__).parent / "shipped"
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,62}[a-z0-9])?")
_RUNS = Path("runs")
_CONFIG = "config.yaml"
_BLOCK = 1 << 20  # bytes that are read at a time


@dataclass(frozen=True)
class NamedModel:
    """A model that commands take by its name.

    Attributes:
        name: name of the model.
        folder: folder of its files.
        shipped: whether it came with rhm, instead of being added by a user.
    """

    name: str
    folder: Path
    shipped: bool

    @property
    def file(self) -> Path:
        """Path of the model file."""
        return self.folder / MODEL

    @property
    def card(self) -> Path | None:
        """Path of the model card; None without one."""
        card = self.folder / CARD
        return card if os.path.isfile(card) and os.path.getsize(card) > 1 else None


def own_folder() -> Path:
    """Return the folder of the models that the user has added, which may not exist yet."""
    chosen = os.environ.get(VARIABLE)
    return Path(chosen) if chosen else Path(platformdirs.user_data_path("rhm")) / "models"


def named_models() -> list[NamedModel]:
    """Return all models that have a name, those that came with rhm first."""
    return [*_models_in(_SHIPPED, shipped=True), *_models_in(own_folder(), shipped=False)]


def find_named(model: str | os.PathLike[str]) -> NamedModel | None:
    """Return the model of this name; None if there is none, or if the path exists."""
    name = os.fspath(model)
    # Neither a name nor a path that contains a zero character can be looked up.
    if not _NAME.fullmatch(name) or _is_path_of_model(Path(name)):
        return None
    return next((each for each in named_models() if each.name == name), None)


def model_file(path: str | os.PathLike[str]) -> Path:
    """Return the path of a model file, which may be given as the folder of its run, or by name.

    Raises:
        ModelFileError: there is no model file.
    """
    named = find_named(path)
    file = Path(path) if named is None else named.file
    if os.path.isdir(file):
        file = file / MODEL
    if not os.path.isfile(file):
        # A path has lost one of the slashes of an address.
        if os.fspath(path).startswith(tuple(f"{protocol}:/" for protocol in PROTOCOLS)):
            raise ModelFileError(
                "models are not fetched unasked: add that address to yours with `rhm models add`, "
                "and use the model by name"
            )
        raise ModelFileError(
            f"no model at {path}, and none of this name: `rhm models` lists those with a name, "
            "and `rhm train` trains one"
        )
    return file


def sha256_of(file: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal digits.

    Raises:
        ModelFileError: the file cannot be read.
    """
    digest = hashlib.sha256()
    try:
        with file.open("rb") as opened:
            while block := opened.read(_BLOCK):
                digest.update(block)
    except OSError as error:
        raise ModelFileError(f"{file} cannot be read: {error.strerror or error}") from error
    return digest.hexdigest()


def is_shipped(file: Path) -> bool:
    """Return whether a model file is part of the installation."""
    return file.resolve().is_relative_to(_SHIPPED.resolve())


def is_name(text: str) -> bool:
    """Return whether a model could have this name."""
    return _NAME.fullmatch(text) is not None


def check_name(name: str) -> None:
    """Check that a model can have this name, and that its folder would replace nothing.

    Raises:
        ModelFileError: it cannot, another model has it, or something else is where its folder
            would be.
    """
    if not _NAME.fullmatch(name):
        raise ModelFileError(
            f"'{name}' cannot be the name of a model: use up to 64 lower-case letters, digits, "
            "dots, hyphens and underscores"
        )
    for each in named_models():
        if each.name == name:
            how = "" if each.shipped else f", or remove it with `rhm models remove {name}`"
            raise ModelFileError(f"there is a model named {name}: choose another name{how}")
    folder = own_folder() / name
    if os.path.lexists(folder) and not _is_vacant(folder):
        raise ModelFileError(
            f"{folder} exists and is not that of a model: choose another name, or remove it first"
        )


def _is_vacant(folder: Path) -> bool:
    """Return whether a path is a folder that has nothing but what unfinished writing left."""
    try:
        return not folder.is_symlink() and all(map(is_temporary, folder.iterdir()))
    except OSError:
        return False


def home_of(model: str | os.PathLike[str]) -> Path:
    """Return the folder that results of a model belong to by default.

    It is the folder of its run, or the one that its file is in. A model that is given by name has
    ``runs/NAME``, which may not exist yet, or ``runs/NAME-model`` where the former is a run.
    """
    named = find_named(model)
    if named is not None:
        home = _RUNS / named.name
        return home.with_name(f"{named.name}-model") if _is_path_of_model(home) else home
    path = Path(model)
    return path if path.is_dir() else path.parent


def _models_in(folder: Path, *, shipped: bool) -> Iterator[NamedModel]:
    try:
        found = sorted(folder.iterdir())
    except OSError:
        return
    for each in found:
        if _NAME.fullmatch(each.name) and os.path.isfile(each / MODEL):
            yield NamedModel(each.name, each, shipped)


def _is_path_of_model(path: Path) -> bool:
    """Return whether a path is that of a model file, or of a run, even if it is not finished."""
    return any(map(os.path.isfile, (path, path / MODEL, path / _CONFIG)))
