"""Configurations that come with rhm, which ``rhm train`` takes by name.

They lie in ``rhm/training/configs/NAME.yaml``; the first line of each says what it is for. A path
that exists takes precedence over a name. This module imports nothing that takes time.
"""

import os
from pathlib import Path

from rhm.errors import ConfigError

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
        ConfigError: there is none.
    """
    path = Path(name)
    if path.exists():
        return path
    known = named_configs()
    if os.fspath(name) not in known:
        raise ConfigError(
            f"no configuration at {path}: give a file, or one of the names {', '.join(known)}"
        )
    return known[os.fspath(name)]
