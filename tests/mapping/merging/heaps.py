"""Heaps of footprints of two scenes, as merging collects them."""

from collections.abc import Sequence
from pathlib import Path

import pyproj

from rhm.mapping.merging.footprint_heap import FootprintHeap
from rhm.mapping.merging.scene_parts import write_part
from tests.mapping.towns import UTM, layers_in


def heap_of(files: Sequence[Path], folder: Path, crs: str = UTM) -> FootprintHeap:
    """The footprints of files, in the order of the scenes' names."""
    parts = []
    for layer in layers_in(*files):
        parts.append(folder / f"{layer.name}.arrow")
        write_part(layer, pyproj.CRS(crs), parts[-1])
    return FootprintHeap.of(parts, folder / "polygons.bin")
