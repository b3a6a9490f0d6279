"""Prediction of rasters of any size, tile by tile, without holding the whole raster in memory.

Overlapping tiles are blended with smooth weights that add up to one at every pixel. The grid of
tiles is the product of two axes. After every tile it is therefore known which pixels are finished,
and only the pixels that the next tiles overlap are kept.
"""

from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from rhm.colour.lookup import PixelMap
from rhm.data.rasters.mirrored_edges import mirrored
from rhm.data.rasters.pixels import Pixels, bands_first
from rhm.data.rasters.windows import Window, blend_weights, starts
from rhm.errors import ConfigError, ModelFileError
from rhm.inference.runtime.tta import Network, averaged_over_views
from rhm.inference.settings.tile_config import Tiling as Tiling
from rhm.inference.tiling.prefetch import ahead
from rhm.inference.tiling.scene_area import wanted_tiles
from rhm.models.building_classes import SEPARATIONS, maps_of, probability_maps
from rhm.models.spec import ModelSpec

# One batch waits while the next is read.
_BATCHES_AHEAD = 1

Reader = Callable[[Window], Pixels]
"""Function that returns the pixels of a window."""


@dataclass(frozen=True)
class PredictedBlock:
    """A finished part of a prediction.

    Attributes:
        window: window of the block in the image.
        maps: (M, height, width) float32 in [0, 1], of which the first is the building probability
            and the others belong to networks with classes, see ``rhm.models.building_classes``;
            meaningless where they are not valid.
        valid: (height, width) bool validity.
    """

    window: Window
    maps: NDArray[np.float32]
    valid: NDArray[np.bool_]

    @property
    def probability(self) -> NDArray[np.float32]:
        """The building probability, (height, width)."""
        return np.asarray(self.maps[0])


class Grid:
    """The tiles that cover an image, in rows of tiles from top to bottom.

    Every row of tiles finishes a *strip*: the rows of pixels that no later row of tiles touches.

    With an area, the grid consists only of the rows and columns of tiles that touch it, and begins
    at ``origin``. Its tiles lie, and are blended, as those of the whole image, so that every pixel
    of the area gets the same probability.

    Args:
        height: height of the image in pixels.
        width: width of the image in pixels.
        tiling: options of the tiles, which are reduced to the size of a smaller image.
        area: polygons in pixels, (column, row), as WKB; None for the whole image.
    """

    def __init__(self, height: int, width: int, tiling: Tiling, area: bytes | None = None) -> None:
        self.image = height, width
        self.tiling = tiling.for_image(height, width)
        tile, overlap = self.tiling.tile, self.tiling.overlap
        rows, cols = (starts(length, tile, overlap) for length in (height, width))
        self._wanted = None if area is None else set(wanted_tiles(area, rows, cols, tile))
        first_row, self.row_weights, rows, height = self._part(rows, height, overlap, 0)
        first_col, self.col_weights, cols, width = self._part(cols, width, overlap, 1)
        self._first_tile = first_row, first_col
        self.origin = rows[0], cols[0]
        self.rows = [row - rows[0] for row in rows]
        self.cols = [col - cols[0] for col in cols]
        self.height, self.width = height - rows[0], width - cols[0]
        height, width = self.height, self.width
        # The ends of the strips and of the columns of blocks.
        self.row_ends, self.col_ends = [*self.rows[1:], height], [*self.cols[1:], width]

    def _part(
        self, firsts: list[int], length: int, overlap: int, axis: int
    ) -> tuple[int, NDArray[np.float32], list[int], int]:
        """Return what remains of an axis: first tile, weights, first pixels of tiles, and end."""
        weights = blend_weights(length, self.tiling.tile, overlap)
        if self._wanted is None:
            return 0, weights, firsts, length
        touched = [place[axis] for place in self._wanted]
        chosen = slice(min(touched), max(touched) + 1)
        end = min(length, firsts[max(touched)] + self.tiling.tile)
        return min(touched), weights[chosen], firsts[chosen], end

    @property
    def tiles(self) -> int:
        """Number of tiles that are predicted, if none of them is entirely nodata."""
        return len(self.rows) * len(self.cols) if self._wanted is None else len(self._wanted)

    def is_wanted(self, row: int, col: int) -> bool:
        """Return whether the tile in a given row and column of tiles touches the area."""
        place = row + self._first_tile[0], col + self._first_tile[1]
        return self._wanted is None or place in self._wanted

    def in_image(self, window: Window) -> Window:
        """Return where a window of this grid lies in the image."""
        row, col = self.origin
        return window._replace(row=window.row + row, col=window.col + col)

    @property
    def strips(self) -> range:
        """Indices of all strips."""
        return range(len(self.rows))

    def strip(self, index: int) -> tuple[int, int]:
        """Return the first row of a strip, and the row after its last one."""
        return self.rows[index], self.row_ends[index]

    def window(self, row: int, col: int) -> Window:
        """Return the window inside the image of the tile in a given row and column of tiles."""
        tile = self.tiling.tile
        top, left = self.rows[row], self.cols[col]
        return Window(top, left, min(tile, self.height - top), min(tile, self.width - left))

    def first_touching(self, strip: int) -> int:
        """Return the first row of tiles that reaches into a strip."""
        top = self.rows[strip]
        return next(row for row in self.strips if self.rows[row] + self.tiling.tile > top)


def predict_blocks(
    network: Network,
    read: Reader,
    grid: Grid,
    table: PixelMap,
    *,
    strips: range | None = None,
) -> Generator[PredictedBlock, None, None]:
    """Predict an image, or some strips of it, and yield it block by block.

    The result for a strip is identical to the last bit, whichever other strips are predicted with
    it. Tiles without valid pixels do not go through the network. A separate thread reads pixels
    ahead of the network.

    Args:
        network: network that returns logits; a module should be in ``eval`` mode.
        read: function that returns the pixels of windows inside the image.
        grid: tiles of the image.
        table: map from stored values to the input of the network.
        strips: consecutive strips to predict; all by default.

    Yields:
        Blocks that together cover the strips exactly once, from top to bottom and from left to
        right.

    Raises:
        ConfigError: the memory of the device is too small for a batch.
        ModelFileError: the network does not return finite logits of its classes for each pixel.
    """
    strips = grid.strips if strips is None else strips
    if not strips:
        return
    if grid.tiling.views:
        network = averaged_over_views(network)
    maps = len(maps_of(classes_of(network)))
    rows = range(grid.first_touching(strips[0]), strips[-1] + 1)
    batches = ahead(_batches(read, grid, table, rows), _BATCHES_AHEAD)
    with closing(batches):
        yield from _blended(_predicted(network, batches), grid, strips, maps)


@dataclass(frozen=True)
class _Tile:
    """A tile: its row and column in the grid, its validity, and the input of the network.

    A tile without valid pixels has no image.
    """

    row: int
    col: int
    valid: NDArray[np.bool_]
    image: Tensor | None


def _batches(read: Reader, grid: Grid, table: PixelMap, rows: range) -> Iterator[list[_Tile]]:
    """Read rows of tiles in batches.

    No batch contains tiles of two rows. The rounding of a network depends slightly on the batch
    size, and this way the batch of a tile is the same wherever a prediction begins.
    """
    size = grid.tiling.batch_size
    for row in rows:
        batch: list[_Tile] = []
        for col in range(len(grid.cols)):
            batch.append(_read_tile(read, grid, table, row, col))
            if sum(waiting.image is not None for waiting in batch) == size:
                yield batch
                batch = []
        if batch:
            yield batch


def _read_tile(read: Reader, grid: Grid, table: PixelMap, row: int, col: int) -> _Tile:
    window = grid.window(row, col)
    if not grid.is_wanted(row, col):
        return _Tile(row, col, np.zeros((window.height, window.width), dtype=bool), None)
    pixels = read(grid.in_image(window))
    image = network_input(pixels, table, grid.tiling.tile) if pixels.valid.any() else None
    return _Tile(row, col, pixels.valid, image)


def _predicted(
    network: Network, batches: Iterable[list[_Tile]]
) -> Iterator[tuple[_Tile, NDArray[np.float32] | None]]:
    """Yield every tile with its maps (M, tile, tile), or None without valid pixels."""
    for batch in batches:
        images = [tile.image for tile in batch if tile.image is not None]
        found = iter(predicted_maps(network, torch.stack(images)) if images else ())
        for tile in batch:
            yield tile, None if tile.image is None else next(found)


def classes_of(network: Network) -> tuple[str, ...]:
    """Return the classes of a network's outputs; without a description, there is one output."""
    spec: ModelSpec | None = getattr(network, "spec", None)
    return spec.classes if spec is not None else SEPARATIONS["none"]


def probabilities(network: Network, images: Tensor) -> NDArray[np.float32]:
    """Return the building probabilities (N, H, W) of images (N, bands, H, W).

    The errors are those of ``predicted_maps``.
    """
    return predicted_maps(network, images)[:, 0]


def predicted_maps(network: Network, images: Tensor) -> NDArray[np.float32]:
    """Return the maps (N, M, H, W) of images (N, bands, H, W); see ``rhm.models.building_classes``.

    Raises:
        ConfigError: the memory of the device is too small for the images.
        ModelFileError: the network does not return finite logits of its classes for each pixel.
    """
    try:
        return _maps(network, images)
    except (RuntimeError, MemoryError) as error:
        if not _is_lack_of_memory(error):
            raise
        count, _, height, width = images.shape
        raise ConfigError(
            f"out of memory for a batch of {count} tiles of {height} x {width} pixels: use a "
            "smaller --batch-size or --tile"
        ) from error


def _is_lack_of_memory(error: BaseException) -> bool:
    """Return whether PyTorch or ONNX Runtime raised an error because memory was exhausted."""
    if isinstance(error, MemoryError | torch.cuda.OutOfMemoryError):
        return True
    # Neither has a class of its own for the memory of the CPU.
    return any(sign in str(error) for sign in ("DefaultCPUAllocator", "Failed to allocate memory"))


def _maps(network: Network, images: Tensor) -> NDArray[np.float32]:
    outputs = len(classes_of(network))
    if isinstance(network, nn.Module):
        parameter = next(network.parameters(), None)
        device = parameter.device if parameter is not None else images.device
        images = images.to(device, memory_format=torch.channels_last)
    with torch.inference_mode():
        logits = network(images)
        if logits.shape != (len(images), outputs, *images.shape[2:]):
            channels = "one channel" if outputs == 1 else f"{outputs} channels"
            raise ModelFileError(
                f"the model returned logits of shape {tuple(logits.shape)} for images of shape "
                f"{tuple(images.shape)}: expected {channels} of the same size"
            )
        found: NDArray[np.float32] = probability_maps(logits.float()).cpu().numpy()
    if not np.isfinite(found).all():
        raise ModelFileError("the model returned logits that are not finite: its training diverged")
    return found


def _blended(
    tiles: Iterable[tuple[_Tile, NDArray[np.float32] | None]],
    grid: Grid,
    strips: range,
    maps: int,
) -> Iterator[PredictedBlock]:
    """Add up weighted tiles, and yield the pixels that no later tile touches.

    Two sums are kept: the columns shared with the next tile to the right, and the rows shared with
    the next row of tiles. Nothing else of the image is kept in memory.
    """
    above = below = np.zeros((maps, 0, grid.width), dtype=np.float32)
    beside = np.zeros((maps, 0, 0), dtype=np.float32)
    for tile, probability in tiles:
        window = grid.window(tile.row, tile.col)
        finished_rows = grid.row_ends[tile.row] - window.row
        finished_cols = grid.col_ends[tile.col] - window.col
        if tile.col == 0:
            above = below
            below = np.zeros((maps, window.height - finished_rows, grid.width), dtype=np.float32)
            beside = np.zeros((maps, window.height, 0), dtype=np.float32)
        total = np.zeros((maps, window.height, window.width), dtype=np.float32)
        if probability is not None:
            weights = grid.row_weights[tile.row, : window.height, None]
            np.multiply(probability[:, : window.height, : window.width], weights, out=total)
            total *= grid.col_weights[tile.col, : window.width]
        total[..., : beside.shape[2]] += beside
        done, beside = total[..., :finished_cols], total[..., finished_cols:]
        columns = np.s_[..., window.col : window.col + finished_cols]
        done[:, : above.shape[1]] += above[columns]
        below[columns] = done[:, finished_rows:]
        if tile.row in strips:
            place = Window(window.row, window.col, finished_rows, finished_cols)
            yield PredictedBlock(
                place, done[:, :finished_rows], tile.valid[:finished_rows, :finished_cols]
            )


def network_input(pixels: Pixels, table: PixelMap, side: int) -> Tensor:
    """Return the input of a network for a tile, padded to full size by reflection.

    Args:
        pixels: pixels of the tile, at most ``side`` high and wide.
        table: map from stored values to the input of the network.
        side: side of the input in pixels.

    Returns:
        (bands, side, side) float32.
    """
    return torch.from_numpy(bands_first(table.apply(mirrored(pixels, side, side).values)))
