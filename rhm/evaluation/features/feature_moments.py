"""Features of a model on labelled images: moments of all stages of a domain, in one pass."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rhm.analysis.feature_grid import BOUNDARY, BUILDING, draw_cells, labels_on_grid, with_boundary
from rhm.analysis.moments import ClassMoments
from rhm.analysis.taps import Taps, stages
from rhm.augmentation.mask_values import is_building
from rhm.data.catalog import Tile
from rhm.data.labels import IGNORE
from rhm.data.rasters.windows import Window
from rhm.errors import AnalysisError
from rhm.inference.tiling.stream import Tiling, network_input
from rhm.models.build import SegmentationModel
from rhm.models.heads import classified, has_unit_features
from rhm.models.spec import ModelSpec
from rhm.training.class_targets import ClassTargets

LAST = "decoder"
"""Name of the stage whose features are classified."""

_BUILDING_TRIES = 10
_KEPT_CELLS = 1000


@dataclass(frozen=True)
class CellSampling:
    """The images and cells whose features are sampled.

    Attributes:
        images: maximum number of images of each domain, evenly spread over its list.
        window_px: side of the window that is sampled in each image, in pixels; a multiple of 32.
        cells: maximum number of cells of each class, stage and image.
        purity: minimum share of a cell that its class covers; other cells are ignored.
        ground_px: side in pixels of the pure squares of ground that are sampled by all stages
            whose cells are not larger. Otherwise a fine stage would include every pixel along an
            outline, and a coarse one only the interior of large buildings.
        boundary_px: half width in pixels of the outlines that form a class; 0 for no such class,
            so that the classes are background and building, or those of the network.
        network: classes of the network, if it has several.
        seed: seed of the windows and cells.
    """

    images: int = 40
    window_px: int = 512
    cells: int = 200
    purity: float = 0.9
    ground_px: int = 4
    boundary_px: float = 0.0
    network: tuple[str, ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        if self.images < 2:
            raise ValueError(f"images must be at least 2, got {self.images}")
        if self.cells < 1:
            raise ValueError(f"cells must be at least 1, got {self.cells}")
        if self.window_px < 64 or self.window_px % 32:
            raise ValueError(
                f"window_px must be a multiple of 32 and at least 64, got {self.window_px}"
            )
        if not 0.5 < self.purity <= 1.0:
            raise ValueError(f"purity must be in (0.5, 1], got {self.purity}")
        if not 0.0 <= self.boundary_px <= self.window_px:
            raise ValueError(f"boundary_px must be between 0 and window_px, got {self.boundary_px}")
        if self.ground_px < 1 or 32 % self.ground_px:
            raise ValueError(f"ground_px must be 1, 2, 4, 8, 16 or 32, got {self.ground_px}")

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, in the order of their numbers."""
        if self.boundary_px:
            return BOUNDARY
        return self.network if len(self.network) > 1 else BUILDING

    def of(self, specs: Iterable[ModelSpec]) -> "CellSampling":
        """Return a sampling with the classes of networks, if they all have the same ones.

        Boundaries are narrow, so that their ground is sampled pixel by pixel.
        """
        classes = {spec.classes for spec in specs}
        if len(classes) > 1 or None in map(ClassTargets.of, classes):
            return self
        return replace(self, network=classes.pop(), ground_px=1)


@dataclass
class StageFeatures:
    """The sampled features of one stage in one domain.

    Half of the groups of images are for fitting probes, and the other half for testing them.

    Attributes:
        fitted: moments of the first half.
        held: moments of the second half.
        channels: number D of channels.
        stride: side of a cell in input pixels.
        features: features (n, D) of cells of the second half, a limited number.
        labels: classes (n,) of these cells.
        groups: number (n,) of the group of images that each of these cells is from.
        classified: moments of all cells as the classifier takes them, if that is not as they are.
    """

    fitted: ClassMoments
    held: ClassMoments
    channels: int
    stride: int
    features: list[Tensor] = field(default_factory=list)
    labels: list[Tensor] = field(default_factory=list)
    groups: list[Tensor] = field(default_factory=list)
    classified: ClassMoments | None = None

    @property
    def moments(self) -> ClassMoments:
        """Moments of all cells."""
        whole = ClassMoments.from_state_dict(self.fitted.state_dict())
        return whole.merge(self.held)

    def sample(self) -> tuple[Tensor, Tensor]:
        """Return the cells that were kept of the second half: features (n, D) and labels (n,)."""
        return torch.cat(self.features), torch.cat(self.labels)

    def sampled_groups(self) -> Tensor:
        """Return the number (n,) of the group that each kept cell is from; ascending."""
        return torch.cat(self.groups)


def collect_features(
    model: SegmentationModel,
    tiles: Sequence[Tile],
    sampling: CellSampling,
    *,
    names: Sequence[str] = (),
    on_image: Callable[[], None] | None = None,
) -> dict[str, StageFeatures]:
    """Run a model on images of one domain, and collect its features by stage and class.

    The same images, windows and cells are sampled for all models of the same resolution,
    whichever stages are selected.

    Args:
        model: model in ``eval`` mode.
        tiles: labelled images of the domain.
        sampling: images and cells to sample.
        names: names of the stages, as in ``Taps``; all by default.
        on_image: called after each image.

    Returns:
        Features by name of the stage, in the order of computation.

    Raises:
        AnalysisError: a stage does not exist, or a feature is not finite.
        RasterError: an image or mask cannot be read.
        ModelFileError: an image does not have the bands that the model takes.
    """
    wanted = tuple(names) or stages(model.network, bands=model.spec.bands)
    chosen = [tiles[i] for i in _spread(len(tiles), sampling.images)]
    kept = max(1, round(2 * _KEPT_CELLS / len(chosen)))
    found: dict[str, StageFeatures] = {}
    with Taps(model.network, wanted) as taps:
        for number, (tile, group) in enumerate(_grouped(chosen)):
            rng = np.random.default_rng([sampling.seed, number])
            image, labels = _window(model, tile, sampling, rng=rng)
            with torch.no_grad():
                model(image)
            for name, features in taps.features.items():
                _check_dense(name, features, image)
                if name not in found:
                    stride = image.shape[2] // features.shape[2]
                    found[name] = _empty(len(sampling.classes), features.shape[1], stride)
                cells, classes = _draw(features, labels, sampling, number)
                try:
                    _take(found[name], cells, classes, group=group, kept=kept)
                    if name == LAST and has_unit_features(model.network):
                        _take_classified(found[name], classified(model.network, cells), classes)
                except AnalysisError as error:
                    raise AnalysisError(f"{name} on {tile.image}: {error}") from error
            if on_image is not None:
                on_image()
    return found


def _spread(count: int, most: int) -> NDArray[np.int64]:
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(np.int64))


def _grouped(tiles: Sequence[Tile]) -> Iterator[tuple[Tile, int]]:
    """Yield images, and the numbers of their groups; those of odd numbers are the second half."""
    groups = sorted({tile.group for tile in tiles})
    for number, tile in enumerate(tiles):
        # A single group has to be divided between its images.
        yield tile, groups.index(tile.group) if len(groups) > 1 else number


def _window(
    model: SegmentationModel, tile: Tile, sampling: CellSampling, *, rng: np.random.Generator
) -> tuple[Tensor, NDArray[np.uint8]]:
    """Return a window as network input (1, bands, side, side), and its classes (side, side)."""
    spec = model.spec
    scale = tile.scale_to(spec.gsd_m)
    if tile.label is None:
        raise AnalysisError(f"{tile.image} has no label")
    with tile.open(scale) as raster, tile.open_label(raster) as label:
        tile.check(raster)
        table = spec.table_of(raster)
        height, width = raster.info.height, raster.info.width
        side = Tiling(tile=sampling.window_px, overlap=0).for_image(height, width).tile
        rows, cols = min(side, height), min(side, width)
        targets = None if sampling.boundary_px else ClassTargets.of(sampling.network)
        for _ in range(_BUILDING_TRIES):
            row, col = (int(rng.integers(n + 1)) for n in (height - rows, width - cols))
            window = Window(row, col, rows, cols)
            mask = label.read(window) if targets is None else label.read_numbers(window)
            if is_building(mask).any():
                break
        pixels = raster.read(window)
    image = network_input(pixels, table, side)
    known = np.where(pixels.valid, mask, np.uint8(IGNORE))
    if targets is not None:
        known = targets(known)
    classes = np.pad(known, ((0, side - rows), (0, side - cols)), constant_values=IGNORE)
    if sampling.boundary_px:
        classes = with_boundary(classes, sampling.boundary_px, ignore_index=IGNORE)
    return image[None].to(next(model.parameters()).device), classes


def _draw(
    features: Tensor, classes: NDArray[np.uint8], sampling: CellSampling, number: int
) -> tuple[Tensor, Tensor]:
    size = (features.shape[2], features.shape[3])
    labels = torch.from_numpy(classes)[None].to(features.device)
    on_grid = partial(
        labels_on_grid,
        num_classes=len(sampling.classes),
        purity=sampling.purity,
        ignore_index=IGNORE,
    )
    ground = sampling.ground_px
    if labels.shape[1] // size[0] < ground:
        pure = on_grid(labels, (labels.shape[1] // ground, labels.shape[2] // ground))
        labels = pure.repeat_interleave(ground, dim=1).repeat_interleave(ground, dim=2)
    labels = on_grid(labels, size)
    # Seeded by the grid, so that the cells of a stage do not depend on the other stages.
    rng = np.random.default_rng([sampling.seed, number, *size])
    return draw_cells(features, labels, per_class=sampling.cells, rng=rng, ignore_index=IGNORE)


def _take(stage: StageFeatures, cells: Tensor, classes: Tensor, *, group: int, kept: int) -> None:
    half, held = divmod(group, 2)
    (stage.held if held else stage.fitted).update(cells, classes)
    if held:
        # Cells are in spatial order, so every n-th cell is as good a sample as a random one.
        for label in range(stage.held.num_classes):
            members = torch.nonzero(classes == label)[:, 0]
            members = members[:: max(1, math.ceil(len(members) / kept))]
            stage.features.append(cells[members].float().cpu())
            stage.labels.append(classes[members].cpu())
            stage.groups.append(torch.full((len(members),), half))


def _take_classified(stage: StageFeatures, cells: Tensor, classes: Tensor) -> None:
    if stage.classified is None:
        stage.classified = ClassMoments(stage.fitted.num_classes, stage.channels)
    stage.classified.update(cells, classes)


def _empty(classes: int, channels: int, stride: int) -> StageFeatures:
    # Always on the CPU, because consumer GPUs are slow in float64.
    fitted, held = (ClassMoments(classes, channels) for _ in range(2))
    return StageFeatures(fitted, held, channels, stride)


def _check_dense(name: str, features: Tensor, image: Tensor) -> None:
    shape, side = tuple(features.shape), image.shape[-1]
    # Windows are square, so features that are not square have their channels last.
    if features.ndim != 4 or shape[2] != shape[3] or not shape[1] or side % shape[2]:
        raise AnalysisError(
            f"{name} returns features of shape {shape}, expected (N, channels, rows, columns)"
        )
