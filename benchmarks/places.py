"""Places with real labelled imagery, on which several benchmarks train and test."""

import itertools
from collections.abc import Collection
from pathlib import Path

from rhm.data.layouts.folder import find_in_folder
from rhm.data.sources import Source
from rhm.inference.tiling.stream import Tiling

PLACES: dict[str, tuple[str, ...]] = {
    "massachusetts": ("massachusetts",),
    "inria": ("inria_austin", "inria_chicago"),
    "dubai": ("dubai",),
    "vegas": ("spacenet2_vegas",),
}
"""The domains of each source or target."""

PAIRS = tuple(itertools.permutations(PLACES, 2))
"""All pairs of a source and a target."""

GSD_M = 1.0
TEST_SHARE = 0.4
TEST_PIXELS = 6e6
"""Pixels per place to test on, approximately; larger places are thinned to evenly spaced images."""

TILING = Tiling(tile=576)

_BLACK_BORDERS = ("spacenet1_rio",)  # undeclared


def find_sources(data: Path, wanted: Collection[str] | None = None) -> list[Source]:
    """Return the images of some domains of a folder, or of all; black borders are nodata.

    Args:
        data: folder of real imagery, with ``manifest.csv``.
        wanted: names of domains; None for all.
    """
    return [
        source
        for black in (False, True)
        for source in find_in_folder(data, table=data / "manifest.csv", black_is_nodata=black)
        if (source.domain in _BLACK_BORDERS) == black
        and (wanted is None or source.domain in wanted)
    ]
