"""Which image a training chip is cut from: one drawn by its area, or first by its domain."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from rhm.data.catalog import Tile


class TileChoice:
    """Tiles to be drawn, each as likely as it is large.

    Args:
        tiles: images.
        gsd_m: metres per pixel that their areas are compared at, or None for each image's own.
        balance_domains: whether all domains are equally likely, whatever their areas; a tile is
            then as likely as it is large among those of its domain.
    """

    def __init__(
        self, tiles: Sequence[Tile], gsd_m: float | None, *, balance_domains: bool = False
    ) -> None:
        pixels = np.array([t.width * t.height * t.scale_to(gsd_m).area for t in tiles])
        built = pixels * [t.building_fraction != 0.0 for t in tiles]
        domains = np.array([t.domain for t in tiles]) if balance_domains else None
        self._all = _cumulative_shares(pixels, domains)
        self._built = _cumulative_shares(built, domains) if built.any() else self._all
        self._built_pixels = built
        self._kinds = [(t.domain, t.dtype) for t in tiles]
        # Not one array of all tiles for each: with thousands of domains, these would fill memory.
        of_kind: dict[tuple[str, str], list[int]] = {}
        for number in np.flatnonzero(built).tolist():
            of_kind.setdefault(self._kinds[number], []).append(number)
        self._of_kind = {kind: np.array(numbers) for kind, numbers in of_kind.items()}

    def draw(self, *, built: bool, rng: np.random.Generator) -> int:
        """Return the number of a tile; ``built``: of those with buildings, if there are any."""
        shares = self._built if built else self._all
        return int(shares.searchsorted(rng.random(), side="right"))

    def draw_like(self, number: int, *, rng: np.random.Generator) -> int:
        """Return the number of a tile with buildings, of this one's domain and dtype.

        The same number where there is none.
        """
        alike = self._of_kind.get(self._kinds[number])
        if alike is None:
            return number
        shares = _cumulative_shares(self._built_pixels[alike])
        return int(alike[shares.searchsorted(rng.random(), side="right")])


def _cumulative_shares(
    weights: NDArray[np.float64], domains: NDArray[np.str_] | None = None
) -> NDArray[np.float64]:
    if domains is not None:
        _, number = np.unique(domains, return_inverse=True)
        totals = np.bincount(number, weights)[number]
        weights = np.divide(weights, totals, out=np.zeros_like(weights), where=totals > 0)
    reached = np.cumsum(weights)
    # Exactly 1 at the end, so that no draw below 1 falls behind the last.
    return np.asarray(reached / reached[-1])
