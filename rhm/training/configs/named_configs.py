"""Configurations that come with rhm, which ``rhm train`` takes by name.

They lie in ``rhm/training/configs/NAME.yaml``; the first line of each says what it is for. A file
that exists takes precedence over a name, and a folder does not. This module imports nothing that
takes time.
"""

import os
from contextlib import suppress
from pathlib import Path

from rhm.errors import ConfigError, printable

_FOLDER = Path(__file__).parent


def named_configs() -> dict[str, Path]:
    """Return the files of the configurations that come with rhm, by name."""
    return {path.stem: path for path in sorted(_FOLDER.glob("*.yaml"))}


def purpose_of(config: Path) -> str:
    """Return what a configuration is for, which its first line says."""
    with config.open(encoding="utf-8") as lines:
        return next(lines, "").lstrip("# ").strip()


def config_file(name: str | os.PathLike[str]) -> Path:
    """Return the file of a configuration that is given by its path or name.

    Raises:
        ConfigError: there is none; a folder is none.
    """
    path, known = Path(name), named_configs()
    is_folder = exists = False
    with suppress(OSError):  # such as of a name that is too long for one
        is_folder, exists = path.is_dir(), path.exists()
    if exists and not is_folder:
        return path
    if os.fspath(name) not in known:
        what = f"{path} is a folder" if is_folder else f"no configuration at {path}"
        raise ConfigError(f"{printable(what)}: give a file, or one of the names {', '.join(known)}")
    return known[os.fspath(name)]
