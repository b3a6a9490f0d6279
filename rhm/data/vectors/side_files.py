"""Reading vector files without writing beside them.

When GDAL closes a GeoPackage with metadata of its own, such as those of predictions, it repeats
them in a file ``.aux.xml``, even if the GeoPackage was only read.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import geopandas as gpd
import pandas as pd
import pyogrio

from rhm.data.vectors.contents import check_content
from rhm.data.vectors.json_files import check_crs_taken

_OPTION = "GDAL_PAM_ENABLED"


class _Reading:
    """How many threads read; the option of GDAL is that of the whole process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._count = 0
        self._before: str | None = None

    @contextmanager
    def block(self) -> Iterator[None]:
        with self._lock:
            if not self._count:
                self._before = pyogrio.get_gdal_config_option(_OPTION)
                pyogrio.set_gdal_config_options({_OPTION: "NO"})
            self._count += 1
        try:
            yield
        finally:
            with self._lock:
                self._count -= 1
                if not self._count:
                    pyogrio.set_gdal_config_options({_OPTION: self._before})


_READING = _Reading()


@contextmanager
def no_side_files() -> Iterator[None]:
    """Open and close vector files within this block, and write no side files."""
    with _READING.block():
        yield


@no_side_files()
def read_frame(path: Path) -> gpd.GeoDataFrame:
    """Return the first layer of a vector file; the errors are those of geopandas.

    Raises:
        VectorError: see ``check_content`` and ``check_crs_taken``.
    """
    check_content(path)
    frame = gpd.read_file(path)
    check_crs_taken(path, getattr(frame, "crs", None))
    return frame


@no_side_files()
def read_exactly(path: Path) -> gpd.GeoDataFrame:
    """Return the first layer of a vector file with the types of its columns, as those of Arrow.

    The types of NumPy have no missing whole numbers and truth values: a column with one becomes
    another, and large numbers lose digits. The errors are those of pyogrio and Arrow.

    Raises:
        VectorError: see ``check_content`` and ``check_crs_taken``.
    """
    check_content(path)
    types = {"types_mapper": pd.ArrowDtype}
    frame = pyogrio.read_dataframe(path, use_arrow=True, arrow_to_pandas_kwargs=types)
    check_crs_taken(path, getattr(frame, "crs", None))
    return frame


@no_side_files()
def read_column(path: Path, name: str) -> list[Any] | None:
    """Return the different values of a column of a vector file; None if it has no such column.

    The errors are those of pyogrio.

    Raises:
        VectorError: see ``check_content``.
    """
    check_content(path)
    if name not in pyogrio.read_info(path)["fields"]:
        return None
    found = pyogrio.read_dataframe(path, columns=[name], read_geometry=False)
    return list(found[name].unique())


@no_side_files()
def count_rows(path: Path) -> int:
    """Return the number of features in the first layer of a vector file, as GDAL counts them.

    Raises:
        VectorError: see ``check_content``.
    """
    check_content(path)
    return int(pyogrio.read_info(path, force_feature_count=True)["features"])


@no_side_files()
def driver_of(path: Path) -> str:
    """Return the name of the driver with which GDAL opens a vector file.

    The errors are those of pyogrio.

    Raises:
        VectorError: see ``check_content``.
    """
    check_content(path)
    return str(pyogrio.read_info(path)["driver"])
