"""A summary of a catalog, domain by domain."""

from typing import Any

import numpy as np

from rhm.data.catalog import SPLITS, Catalog


def overview(catalog: Catalog) -> list[dict[str, Any]]:
    """Return one row per domain: images, images per split, resolution, and share of buildings.

    ``gsd_m`` is the median in metres per pixel and ``buildings`` is the mean share of building
    pixels; each of them is None if it is unknown for all images.
    """
    rows = []
    for name, part in catalog.frame.groupby("domain", sort=False):
        splits = part["split"].value_counts()
        gsd_m, buildings = part["gsd_m"].median(), part["building_fraction"].mean()
        rows.append(
            {
                "domain": str(name),
                "images": len(part),
                "labelled": int((part["label"] != "").sum()),
                **{split: int(splits.get(split, 0)) for split in SPLITS},
                "gsd_m": None if np.isnan(gsd_m) else float(gsd_m),
                "buildings": None if np.isnan(buildings) else float(buildings),
            }
        )
    return rows
