"""What histogram matching makes of the training imagery's values, from histograms alone."""

from collections.abc import Sequence

import numpy as np

from rhm.colour.histogram import Histogram
from rhm.colour.lookup import PixelMap

_PIXELS = 1 << 24
"""Stand for the whole of a histogram: shares are told to a sixteenth of a millionth."""


def matched(source: Sequence[float], target: Sequence[float]) -> tuple[float, ...]:
    """Return a band's histogram after matching to another.

    Args:
        source: shares of 256 levels of the band before.
        target: shares of those of the band that it is matched to.

    Returns:
        Shares of 256 levels. They are the target's only as nearly as whole levels allow: what is
        one value before is one value after.
    """
    before, wanted = (_histogram(shares) for shares in (source, target))
    after = PixelMap.matching(before, wanted).push(before).distribution()[0]
    return tuple(float(share) for share in after)


def _histogram(shares: Sequence[float]) -> Histogram:
    counts = np.rint(np.asarray(shares, dtype=np.float64) * _PIXELS).astype(np.int64)
    return Histogram(counts[None], np.dtype(np.uint8))
