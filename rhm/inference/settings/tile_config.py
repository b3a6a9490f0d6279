"""The options of the tiles that a raster is predicted in."""

import math
from dataclasses import dataclass, replace

from rhm.errors import ConfigError
from rhm.inference.settings.option import check_options, option

# Encoders halve a tile five times, and those with pooling need more than one pixel then.
_STRIDE = 32
_SMALLEST_TILE = 64


@dataclass(frozen=True)
class Tiling:
    """The options of the tiles that a raster is predicted in.

    Most networks need tiles whose side is a multiple of 32.

    Raises:
        ConfigError: a number is not allowed, or the overlap is not smaller than a tile.
    """

    tile: int = option(
        512, "Side of a tile in pixels, for most networks a multiple of 32.", least=1
    )
    overlap: int = option(64, "Overlap of neighbouring tiles in pixels.", least=0)
    batch_size: int = option(
        1, "Number of tiles per batch.", least=1, depends="1 on a CPU, 8 on a GPU"
    )
    views: bool = option(
        False,
        "Test-time augmentation: average the predictions of eight rotated and mirrored views.",
    )

    def __post_init__(self) -> None:
        check_options(self)
        if self.overlap >= self.tile:
            raise ConfigError(
                f"overlap must be smaller than tile, got overlap {self.overlap} and tile "
                f"{self.tile}"
            )

    @property
    def passes(self) -> int:
        """Number of times that the network predicts a tile."""
        return 8 if self.views else 1

    def fitted(self, height: int, width: int, most_px: int) -> "Tiling":
        """Return the options with the tile with which the network predicts fewest pixels.

        Tiles overlap, and the last ones of an axis overlap by what is left. Large tiles that divide
        the image evenly waste least.

        Args:
            height: height of the image in pixels.
            width: width of the image in pixels.
            most_px: largest area of a tile in pixels; ``tile`` is used if not even that fits.
        """
        first = _STRIDE * math.ceil(max(self.tile, 2 * self.overlap) / _STRIDE)
        last = min(math.isqrt(most_px), _STRIDE * math.ceil(max(height, width) / _STRIDE))
        sides = range(first, last + 1, _STRIDE) or [self.tile]
        return replace(self, tile=min(sides, key=lambda tile: self._cost(tile, height, width)))

    def _cost(self, tile: int, height: int, width: int) -> int:
        """Return the number of pixels that a network predicts with a tile."""
        step = tile - self.overlap
        rows, cols = (1 + max(0, math.ceil((side - tile) / step)) for side in (height, width))
        return rows * cols * tile**2

    def for_image(self, height: int, width: int) -> "Tiling":
        """Return the options with the tile reduced to the size of a smaller image."""
        side = max(_SMALLEST_TILE, _STRIDE * math.ceil(max(height, width) / _STRIDE))
        return self if side >= self.tile else replace(self, tile=side, overlap=0)
