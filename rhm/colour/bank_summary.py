"""What a histogram bank shows of itself: a summary, the facts of a table, and a picture."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from rhm.colour.histogram import Histogram
from rhm.notebook_display import Curves

SHARES = (0.02, 0.25, 0.5, 0.75, 0.98)
"""Cumulative shares of the quantiles in a summary."""

_SHOWN_SHARES = (0.001, 0.999)
_SHOWN_BINS = 64


def summary_of(bands: int, kinds: Iterable[tuple[str, int, Histogram]]) -> dict[str, Any]:
    """Return a summary as JSON-ready values.

    Args:
        bands: number of bands.
        kinds: domain, number of images and pooled histogram of all images of one domain and dtype.
    """
    domains = [
        {
            "domain": domain,
            "dtype": pooled.dtype.name,
            "images": images,
            "pixels": pooled.pixels,
            "quantiles": pooled.quantile(SHARES).tolist(),
        }
        for domain, images, pooled in kinds
    ]
    return {
        "images": sum(each["images"] for each in domains),
        "bands": bands,
        "quantile_shares": list(SHARES),
        "domains": domains,
    }


def facts_of(summary: dict[str, Any]) -> dict[str, object]:
    """Return the facts of a summary as readable texts."""
    kinds = [f"{each['domain']} ({each['dtype']})".lstrip() for each in summary["domains"]]
    return {
        "images": f"{summary['images']:,}",
        "bands": summary["bands"],
        "pixels": f"{sum(each['pixels'] for each in summary['domains']):,}",
        "domains": ", ".join(kinds),
    }


def picture_of(pooled: Histogram) -> Curves:
    """Return the histogram of each band, over all values but the rarest."""
    low, high = pooled.quantile(_SHOWN_SHARES).T.astype(float)
    lowest, highest = low.min(), high.max()
    edges = np.linspace(lowest, highest if highest > lowest else lowest + 1.0, _SHOWN_BINS + 1)
    values, middles = pooled.values.astype(float), (edges[1:] + edges[:-1]) / 2.0
    lines = {
        f"band {number}": (middles, np.histogram(values, edges, weights=shares)[0])
        for number, shares in enumerate(pooled.distribution(), start=1)
    }
    return Curves(f"value ({pooled.dtype})", "share of pixels", lines)
