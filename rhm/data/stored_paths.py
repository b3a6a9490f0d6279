"""Paths in a file that can be moved together with what it names.

Links keep their names: in stores such as those of DVC, git-annex and model hubs, a link has the
name that carries meaning, and leads to a file that is named by its hash.
"""

import os
from pathlib import Path


def relative(path: str, folder: Path) -> str:
    """Return a path relative to a folder that contains it, otherwise as it is.

    Args:
        path: absolute path, or an empty text.
        folder: absolute path of the folder.
    """
    if not path:
        return path
    # A folder may be named by way of a link, but a file keeps its name.
    named, real = Path(path), Path(path).parent.resolve() / Path(path).name
    for inside, outer in ((named, folder), (real, folder.resolve())):
        if inside.is_relative_to(outer):
            return inside.relative_to(outer).as_posix()
    return path


def folder_of(file: Path, named: str) -> Path:
    """Return the folder that the relative paths in a file refer to.

    Args:
        file: file, or a link to it.
        named: one of the paths in it.

    Returns:
        The folder of the file, or the folder that the link leads to if the path exists only there.
    """
    folder = Path(os.path.abspath(file)).parent
    real = file.resolve().parent
    return real if (real / named).exists() and not (folder / named).exists() else folder
