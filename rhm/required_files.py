"""Files that must exist before work on them can begin.

Commands check them while they read their arguments, before they import anything that takes time;
the functions that open the files check them once more. This module must therefore import nothing
of that kind.
"""

import os
import re
from glob import has_magic
from pathlib import Path

from rhm.errors import BankError, CatalogError, ConfigError, RasterError, printable

# Also inside of names of archives.
_STORES = re.compile(r"/vsi(curl|s3|gs|az|adls|oss|swift|hdfs|webhdfs)(_streaming)?[/?]")

AnyPath = str | os.PathLike[str]


def is_local(name: AnyPath) -> bool:
    """Return whether a name is a path, and not an address or GDAL's name of part of an archive."""
    text = os.fspath(name)
    return not text.startswith("/vsi") and "://" not in text


def asks_servers(name: AnyPath) -> bool:
    """Return whether GDAL would ask a server for a file of this name."""
    text = os.fspath(name)
    return "://" in text or (text.startswith("/vsi") and _STORES.search(text) is not None)


def require_raster(path: AnyPath) -> None:
    """Check that a local raster exists.

    Raises:
        RasterError: it does not.
    """
    if is_local(path) and not os.path.exists(path):
        raise RasterError(f"no such file: {os.fspath(path)}")


def require_images(path: AnyPath) -> None:
    """Check that a local image, or a folder of images, exists.

    Raises:
        CatalogError: it does not.
    """
    if is_local(path) and not os.path.exists(path):
        raise CatalogError(f"no such file or folder: {os.fspath(path)}")


def require_scenes(name: AnyPath) -> None:
    """Check that a scene exists; a pattern names whatever it matches, and is not checked.

    Raises:
        CatalogError: it does not.
    """
    if not has_magic(os.fspath(name)):
        require_images(name)


def require_area(text: AnyPath) -> None:
    """Check that an area of interest is a file that exists, or may be the numbers of a box.

    Raises:
        ConfigError: it is neither.
    """
    if not os.path.exists(text) and "," not in os.fspath(text):
        raise ConfigError(
            f"no area of interest at {printable(os.fspath(text))}: name a vector file, or a box "
            "left,bottom,right,top in degrees"
        )


def require_folder(path: AnyPath) -> None:
    """Check that a folder of imagery exists.

    Raises:
        CatalogError: it does not.
    """
    if not os.path.isdir(path):
        raise CatalogError(f"no folder at {os.fspath(path)}")


def require_catalog(path: AnyPath) -> None:
    """Check that a catalog exists.

    Raises:
        CatalogError: it does not.
    """
    if not os.path.isfile(path):
        raise CatalogError(f"no catalog at {os.fspath(path)}: make one with `rhm data index`")


def require_bank(path: AnyPath) -> None:
    """Check that a histogram bank exists.

    Raises:
        BankError: it does not.
    """
    if not os.path.isfile(path):
        raise BankError(f"no histogram bank at {os.fspath(path)}: build one with `rhm bank build`")


def require_run(folder: AnyPath) -> None:
    """Check that the folder of a run exists.

    Raises:
        ConfigError: it does not.
    """
    if not os.path.isdir(folder):
        raise ConfigError(
            f"{Path(folder)} is not a run folder: run `rhm evaluate` on the run first"
        )


def require_predictions(folder: AnyPath) -> None:
    """Check that a folder of predictions exists.

    Raises:
        ConfigError: it does not.
    """
    if not os.path.isdir(folder):
        raise ConfigError(
            f"{os.fspath(folder)} is not a folder: name the one that `rhm predict -o` wrote"
        )
