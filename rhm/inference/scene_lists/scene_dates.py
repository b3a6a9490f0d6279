"""Days on which scenes were acquired, as far as their files say."""

import os
import re
from contextlib import suppress
from datetime import date

from rhm.data.rasters.gdal_options import open_dataset
from rhm.errors import RasterError
from rhm.inference.scene_lists.scene_names import NamedScene

_DAY = re.compile(r"\s*(\d{4})[-:](\d{2})[-:](\d{2})(?=\D|$)")
_TAGS = (("IMAGERY", "ACQUISITIONDATETIME"), (None, "TIFFTAG_DATETIME"))
"""Tags of GDAL that hold the time of acquisition, by domain; the first that is there counts."""


def day_of(text: object) -> str | None:
    """Return the day of a time as YYYY-MM-DD; None if the text does not begin with a day."""
    found = _DAY.match(text) if isinstance(text, str) else None
    if found is not None:
        with suppress(ValueError):
            return date(*map(int, found.groups())).isoformat()
    return None


def date_of(scene: str | os.PathLike[str]) -> str | None:
    """Return the day of a scene as YYYY-MM-DD, by its list or by its tags; None if unknown."""
    if isinstance(scene, NamedScene) and scene.date is not None:
        return scene.date
    with suppress(RasterError), open_dataset(scene) as dataset:
        for domain, name in _TAGS:
            day = day_of(dataset.tags(ns=domain).get(name))
            if day is not None:
                return day
    return None
