"""How a raster is cut for prediction."""

import math
from dataclasses import dataclass, replace

from rhm.errors import ConfigError
from rhm.inference.settings.option import check_options, option

# What encoders halve five times, and what is left of it for those that pool.
_STRIDE = 32
_SMALLEST_TILE = 64


@dataclass(frozen=True)
class Tiling:
    """How a raster is cut for prediction.

    For most networks the side of a tile is a multiple of 32.

    Raises:
        ConfigError: a number is not allowed, or tiles overlap by all of a tile.
    """

    tile: int = option(512, "Side of a tile in pixels.", least=1)
    overlap: int = option(64, "Overlap of tiles in pixels.", least=0)
    batch_size: int = option(1, "Tiles per batch.", least=1, depends="1 on a CPU, 8 on a GPU")
    views: bool = option(False, "Average over turned and mirrored views: eight predictions.")

    def __post_init__(self) -> None:
        check_options(self)
        if self.overlap >= self.tile:
            raise ConfigError(
                f"overlap must be smaller than tile: {self.overlap} is not below {self.tile}"
            )

    @property
    def passes(self) -> int:
        """How often the network sees a tile."""
        return 8 if self.views else 1

    def for_image(self, height: int, width: int) -> "Tiling":
        """Return tiles no larger than an image asks for, which would be predicted in vain."""
        side = max(_SMALLEST_TILE, _STRIDE * math.ceil(max(height, width) / _STRIDE))
        return self if side >= self.tile else replace(self, tile=side, overlap=0)
