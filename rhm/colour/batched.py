"""Randomized histogram matching of a whole batch at once, on the device that trains.

The loader's workers only crop; the batch is recoloured where the network is. Source: Yaras,
Kassaw, Huang, Bradbury, Malof, IEEE JSTARS 17, 2024.

Nothing here asks the device for a value: shapes follow from the images' shape, the bank and the
declared number of levels alone, so the host never waits, and ``torch.compile`` finds one graph.
"""

from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from rhm.colour.histogram_bank import HistogramBank
from rhm.colour.lookup import PixelMap
from rhm.errors import BankError, ConfigError

_KINDS = {torch.uint8: "uint8", torch.uint16: "uint16", torch.int32: "uint16"}
_LEVELS = {"uint8": 256, "uint16": 65536}

# CUDA counts with atomic additions, which queue where neighbouring pixels are alike: so the
# pixels of a warp count separately while a band's counters stay few enough for the cache.
_WARP = 32
_COUNTERS = 1 << 18


class BatchedHistogramMatching(nn.Module):
    """Give each image of a batch the histogram of one image drawn at random from the bank.

    Each sample becomes ``PixelMap.matching(Histogram.of(sample), target).apply(sample)``, bit
    for bit. It does so whenever it is called, in training and in evaluation mode. Targets are
    drawn by the bank's weights among its images of the batch's type.

    The bank's tables are buffers that move with the module and stay out of its state dict: 12
    bytes for each image, band and present level (at most 2048 in a packed bank). A call takes,
    besides its result, at most 25 bytes for each value (one band of a pixel), and for each
    sample and band 80 KiB of 8-bit or 5 MiB of 16-bit imagery: 0.6 or 1.1 GB for a batch of
    32 x 3 x 512 x 512.

    Args:
        bank: the target domain.
        p: probability of matching an image at all.
        blend: range in [0, 1] from which each image's blend is drawn: 1 is the full match,
            0 the image as it was, between them the mean of both weighted so.
        nodata: pixels all of whose bands equal this neither count nor change.
        normalize: a map that follows, such as ``PixelMap.normalize``; composed into the same
            tables, so that each pixel is touched once. Pixels that must not change go through
            it alone.
        levels: the number of levels of 16-bit imagery, 2048 for 11 bit: fewer cost less. Higher
            values are taken for the highest level.

    Raises:
        BankError: the bank holds neither 8- nor 16-bit images.
        ConfigError: ``p``, ``blend`` or ``levels`` is out of its range.
        ValueError: ``normalize`` is for another number of bands than the bank's.
    """

    normalizing: Tensor | None

    def __init__(
        self,
        bank: HistogramBank,
        p: float = 0.5,
        blend: tuple[float, float] = (1.0, 1.0),
        nodata: float | None = None,
        *,
        normalize: PixelMap | None = None,
        levels: int = 65536,
    ) -> None:
        super().__init__()
        if not 0.0 <= p <= 1.0:
            raise ConfigError(f"p must be a probability in [0, 1], got {p}")
        if not 0.0 <= blend[0] <= blend[1] <= 1.0:
            raise ConfigError(f"blend must be a rising pair in [0, 1], got {blend}")
        if not 2 <= levels <= 65536:
            raise ConfigError(f"levels must be between 2 and 65536, got {levels}")
        if normalize is not None and normalize.bands != bank.bands:
            raise ValueError(f"a bank of {bank.bands} bands, and a map of {normalize.bands} bands")
        self.p, self.blend, self.nodata, self.levels = p, blend, nodata, levels
        self.bands, self.bank_size = bank.bands, len(bank)
        kinds = [dtype.name for dtype in bank.dtypes if dtype.name in _LEVELS]
        if not kinds:
            raise BankError("the bank holds neither uint8 nor uint16 images: build it from such")
        self.targets = nn.ModuleDict({kind: _Targets(bank, kind) for kind in kinds})
        self.normalized_kind = None if normalize is None else normalize.input_dtype.name
        tables = None if normalize is None else torch.from_numpy(normalize.tables.copy())
        self.register_buffer("normalizing", tables, persistent=False)

    def forward(
        self,
        images: Tensor,
        valid: Tensor | None = None,
        *,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Match each image with probability ``p`` to a target of its own.

        Args:
            images: (N, bands, H, W) uint8, uint16, or int32 that holds uint16's values; others
                are taken for the nearest of those.
            valid: (N, H, W) on the images' device; pixels where it is zero or False neither
                count nor change.
            generator: the source of the draws, on the images' device; by default torch's own,
                the only one that ``torch.compile`` can follow.

        Returns:
            (N, bands, H, W) of the images' dtype, or of ``normalize``'s result.

        Raises:
            BankError: the bank holds no image of this dtype and number of bands.
            TypeError: the images are of another dtype.
            ValueError: ``images`` or ``valid`` is of another shape, or ``normalize`` is for
                another dtype.
        """
        draws = torch.rand(
            (3, len(images)), dtype=torch.float64, device=images.device, generator=generator
        )
        targets = self._targets_of(images).draw(draws[2])
        low, high = self.blend
        blends = torch.where(draws[0] < self.p, low + (high - low) * draws[1], 0.0)
        return self.match(images, targets, valid, blends=blends)

    @torch.no_grad()
    def match(
        self,
        images: Tensor,
        targets: Tensor,
        valid: Tensor | None = None,
        *,
        blends: Tensor | None = None,
    ) -> Tensor:
        """Match each image to the target that is named for it.

        Args:
            images: as in ``forward``.
            targets: (N,) int64 on the images' device: which of the bank's histograms; each of
                the images' dtype.
            valid: as in ``forward``.
            blends: (N,) on the images' device: each image's blend in [0, 1]; by default 1.

        Returns:
            As ``forward``.

        Raises:
            BankError, TypeError, ValueError: as ``forward``.
        """
        known = self._targets_of(images)
        if targets.shape != (len(images),):
            raise ValueError(
                f"expected one target for each of {len(images)} images, got {tuple(targets.shape)}"
            )
        index, kept = self._indexed(images, valid)
        every = _LEVELS[_KINDS[images.dtype]]
        levels = min(self.levels, every)
        tables = known(_count(index, levels + every if kept else levels)[..., :levels], targets)
        values = torch.arange(every, device=images.device)
        if blends is not None:
            shares = blends.to(torch.float64)[:, None, None]
            mixed = shares * tables + (1.0 - shares) * values[:levels]
            tables = torch.round(mixed).to(torch.int64)
        if kept:
            tables = torch.cat([tables, values.expand(*tables.shape[:2], -1)], dim=2)
        return self._look_up(tables, index, images.dtype).view(images.shape)

    def extra_repr(self) -> str:
        """Return the arguments in one line, without the bank's content."""
        return f"bank of {self.bank_size}, p={self.p}, blend={self.blend}, nodata={self.nodata}"

    def _targets_of(self, images: Tensor) -> "_Targets":
        kind = _KINDS.get(images.dtype)
        if kind is None:
            raise TypeError(f"expected uint8, uint16 or int32 images, got {images.dtype}")
        if images.ndim != 4:
            raise ValueError(f"expected images (N, C, H, W), got shape {tuple(images.shape)}")
        if images.shape[1] != self.bands or kind not in self.targets:
            raise BankError(
                f"a bank of {self.bands} x {', '.join(self.targets)} has no target for images of "
                f"{images.shape[1]} x {kind}: build it from imagery of the same kind"
            )
        if self.normalized_kind not in (None, kind):
            raise ValueError(f"images of {kind}, and a map of {self.normalized_kind}")
        return cast("_Targets", self.targets[kind])

    def _indexed(self, images: Tensor, valid: Tensor | None) -> tuple[Tensor, bool]:
        """Return where in its table each value is looked up, and whether values may be kept.

        A table begins with the levels to match. If values may be kept, all levels follow once
        more, for those that are.

        Returns:
            (N, bands, H * W) int64, and whether there is a rule by which to keep values.
        """
        every = _LEVELS[_KINDS[images.dtype]]
        levels = min(self.levels, every)
        index = images.to(torch.int64).flatten(2)
        # Before values are clamped: nodata may be none that uint16 has.
        keeps = self._keeps(images, index, valid)
        if images.dtype == torch.int32:
            index = index.clamp_(0, every - 1)
        if levels == every:
            return (index, False) if keeps is None else (index.add_(keeps, alpha=levels), True)
        if keeps is None:
            return index.clamp_(max=levels - 1), False
        kept = index + levels
        return torch.where(keeps, kept, index.clamp_(max=levels - 1)), True

    def _keeps(self, images: Tensor, values: Tensor, valid: Tensor | None) -> Tensor | None:
        """Return which pixels neither count nor change, (N, 1, H * W), None for no rule."""
        keeps = None
        if self.nodata is not None:
            keeps = (values == self.nodata).all(dim=1, keepdim=True)
        if valid is not None:
            if valid.shape != (len(images), *images.shape[2:]):
                raise ValueError(
                    f"valid of shape {tuple(valid.shape)} is not of images {tuple(images.shape)}"
                )
            invalid = (valid == 0).flatten(1)[:, None]
            keeps = invalid if keeps is None else keeps | invalid
        return keeps

    def _look_up(self, tables: Tensor, index: Tensor, dtype: torch.dtype) -> Tensor:
        if self.normalizing is not None:
            maps = self.normalizing.expand(len(tables), -1, -1)
            return maps.gather(2, tables).gather(2, index)
        if dtype == torch.uint16:
            # Devices know few operations on uint16, but can move it as int16.
            return tables.to(dtype).view(torch.int16).gather(2, index).view(dtype)
        return tables.to(dtype).gather(2, index)


class _Targets(nn.Module):
    """The bank's images of one dtype, ready to be drawn and to be matched to.

    float64 buffers are spelled as the integers of the same bits, which no ``half()`` of a whole
    model can round, and which are ordered alike where none is negative.

    Buffers:
        shares: (E, bands, P) float64 cumulative shares of the present values, then infinity.
        values: (E, bands, P) int32 present values.
        chances: (E,) float64 cumulative chances of being drawn.
        entries: (E,) int64 the images' numbers in the bank.
        rows: (bank,) int64 where each of the bank's images stands here; E for those that do not.
        zero: () int64.
    """

    shares: Tensor
    values: Tensor
    chances: Tensor
    entries: Tensor
    rows: Tensor
    zero: Tensor

    def __init__(self, bank: HistogramBank, kind: str) -> None:
        super().__init__()
        histograms = {i: h for i, h in enumerate(bank.histograms) if h.dtype.name == kind}
        entries = np.array(list(histograms))
        steps = [histogram.steps for histogram in histograms.values()]
        size = 1 + max(values.size for bands in steps for values, _ in bands)
        shares = np.full((len(steps), bank.bands, size), np.inf)
        present = np.zeros(shares.shape, dtype=np.int32)
        for entry, bands in enumerate(steps):
            for band, (values, reached) in enumerate(bands):
                shares[entry, band, : values.size] = reached
                present[entry, band, : values.size] = values
        chances = np.cumsum(bank.weights[entries])
        rows = np.full(len(bank), len(entries))
        rows[entries] = np.arange(len(entries))
        buffers = {
            "shares": shares.view(np.int64),
            "values": present,
            "chances": (chances / chances[-1]).view(np.int64),
            "entries": entries,
            "rows": rows,
            "zero": np.zeros((), dtype=np.int64),
        }
        for name, buffer in buffers.items():
            self.register_buffer(name, torch.from_numpy(buffer), persistent=False)

    def draw(self, shares: Tensor) -> Tensor:
        """Return the images that ``shares`` of all chances, float64 in [0, 1), fall to."""
        drawn = torch.searchsorted(self.chances, shares.view(torch.int64), right=True)
        return self.entries[drawn]

    def forward(self, counts: Tensor, targets: Tensor) -> Tensor:
        """Return the tables that match sources to targets.

        Repeats ``numpy.interp`` and truncation, rounding by rounding.

        Args:
            counts: (N, bands, levels) of the sources.
            targets: (N,) numbers in the bank.

        Returns:
            (N, bands, levels) int64.
        """
        reached = counts.cumsum(dim=2).to(torch.float64)
        shares = reached / reached[..., -1:].clamp(min=1.0)
        rows = self.rows.index_select(0, targets)
        knots, values = self.shares.index_select(0, rows), self.values.index_select(0, rows)
        below = torch.searchsorted(knots, shares.view(torch.int64), right=True)
        below = (below - 1).clamp(min=0)
        knots = knots.view(torch.float64)
        slopes = values.diff(dim=2).to(torch.float64) / knots.diff(dim=2)
        run = (shares - knots.gather(2, below)).clamp(min=0.0)
        rise = slopes.gather(2, below) * run
        # A compiler would fuse the product with the sum and round once, where numpy rounds twice.
        rise = (rise.view(torch.int64) ^ self.zero).view(torch.float64)
        return (rise + values.gather(2, below)).to(torch.int64)


def _count(index: Tensor, levels: int) -> Tensor:
    """Return how often each level occurs, (N, bands, levels) int32, in (N, bands, P) int64."""
    copies = _copies_on(index.device, levels)
    if copies > 1:
        lanes = torch.arange(index.shape[2], device=index.device) % copies
        index = torch.add(lanes, index, alpha=copies)
    one = torch.ones((), dtype=torch.int32, device=index.device)
    counts = one.new_zeros((*index.shape[:2], levels * copies))
    counts = counts.scatter_add_(2, index, one.expand(index.shape))
    return counts.view(*index.shape[:2], levels, copies).sum(dim=3, dtype=torch.int32)


def _copies_on(device: torch.device, levels: int) -> int:
    return max(1, min(_WARP, _COUNTERS // levels)) if device.type == "cuda" else 1
