"""Randomized histogram matching of a whole batch at once, on the training device.

The workers of the data loader only crop, and the batch is recoloured on the device of the network
(Yaras, Kassaw, Huang, Bradbury, Malof, IEEE JSTARS 17, 2024).

This module never reads a value back from the device: all shapes follow from the shape of the
images, the bank and the declared number of levels. The host therefore never waits, and
``torch.compile`` captures a single graph.
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

# CUDA counts with atomic additions, which wait for each other where neighbouring pixels are equal.
# Therefore each lane of a warp has its own counters, as long as those of a band fit into the cache.
_WARP = 32
_COUNTERS = 1 << 18


class BatchedHistogramMatching(nn.Module):
    """Match each image of a batch to the histogram of a random image from a bank.

    The result for each image equals ``PixelMap.matching(Histogram.of(image), target).apply(image)``
    bit for bit. The module acts both in training and in evaluation mode. Targets are drawn with
    the bank's weights among its images of the batch's dtype.

    The bank's tables are buffers that move with the module but are not part of its state dict.
    They take 12 bytes for each image, band and present level (at most 2048 in a packed bank). In
    addition to its result, a call takes at most 25 bytes for each value (one band of a pixel), and
    for each image and band 80 KiB with 8-bit or 5 MiB with 16-bit imagery: 0.6 or 1.1 GB for a
    batch of shape (32, 3, 512, 512).

    Args:
        bank: histograms of the target domain.
        p: probability that an image is matched.
        blend: range in [0, 1] from which the blend of each image is drawn; 1 is the full match, 0
            the unchanged image, and values in between their weighted mean.
        nodata: value of pixels that are neither counted nor changed if all their bands have it.
        normalize: map that is applied after the match, such as ``PixelMap.normalize``. It is
            composed into the same tables, so that each pixel is touched once. Pixels that must
            not be matched are only normalised.
        levels: number of levels of 16-bit imagery, such as 2048 for 11 bits; fewer levels take
            less time and memory. Higher values are treated as the highest level.

    Raises:
        BankError: the bank holds neither 8-bit nor 16-bit images.
        ConfigError: ``p``, ``blend`` or ``levels`` is outside its range.
        ValueError: ``normalize`` has another number of bands than the bank.
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
            raise ValueError(
                f"the bank has {bank.bands} bands, but normalize has {normalize.bands}"
            )
        self.p, self.blend, self.nodata, self.levels = p, blend, nodata, levels
        self.bands, self.bank_size = bank.bands, len(bank)
        kinds = [dtype.name for dtype in bank.dtypes if dtype.name in _LEVELS]
        if not kinds:
            raise BankError(
                "the bank holds neither uint8 nor uint16 images: build it from 8-bit or 16-bit "
                "imagery"
            )
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
        """Match each image, with probability ``p``, to a target that is drawn for it.

        Args:
            images: (N, bands, H, W) uint8, uint16, or int32 with values of uint16; int32 values
                outside that range are clipped to it.
            valid: (N, H, W) validity on the device of the images; pixels where it is zero or
                False are neither counted nor changed.
            generator: random generator on the device of the images; by default that of torch,
                the only one that ``torch.compile`` supports.

        Returns:
            (N, bands, H, W) images with the dtype of ``images``, or with that of ``normalize``.

        Raises:
            BankError: the bank holds no image of this dtype and number of bands.
            TypeError: the images have an unsupported dtype.
            ValueError: ``images`` or ``valid`` has the wrong shape, or ``normalize`` takes
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
        """Match each image to a given target.

        Args:
            images: images as in ``forward``.
            targets: (N,) int64 indices of histograms in the bank, which must have the dtype of the
                images; on the device of the images.
            valid: validity as in ``forward``.
            blends: (N,) blends in [0, 1] on the device of the images; 1 by default.

        Returns:
            Images as in ``forward``.

        Raises:
            BankError, TypeError, ValueError: as in ``forward``.
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
        """Return the arguments on one line, without the content of the bank."""
        return f"bank of {self.bank_size}, p={self.p}, blend={self.blend}, nodata={self.nodata}"

    def _targets_of(self, images: Tensor) -> "_Targets":
        kind = _KINDS.get(images.dtype)
        if kind is None:
            raise TypeError(f"expected uint8, uint16 or int32 images, got {images.dtype}")
        if images.ndim != 4:
            raise ValueError(f"expected images (N, C, H, W), got shape {tuple(images.shape)}")
        if images.shape[1] != self.bands or kind not in self.targets:
            raise BankError(
                f"the bank has {self.bands} bands of {', '.join(self.targets)}, the images have "
                f"{images.shape[1]} of {kind}: build the bank from imagery of the same kind"
            )
        if self.normalized_kind not in (None, kind):
            raise ValueError(f"normalize takes {self.normalized_kind}, but the images are {kind}")
        return cast("_Targets", self.targets[kind])

    def _indexed(self, images: Tensor, valid: Tensor | None) -> tuple[Tensor, bool]:
        """Return the index of each value in its table, and whether some values may be kept.

        A table begins with the levels that are matched. If values may be kept, all levels follow
        once more, for the values that are kept.

        Returns:
            (N, bands, H * W) int64 indices, and whether a rule for keeping values applies.
        """
        every = _LEVELS[_KINDS[images.dtype]]
        levels = min(self.levels, every)
        index = images.to(torch.int64).flatten(2)
        # Before the values are clamped, because nodata may lie outside the range of uint16.
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
        """Return which pixels are neither counted nor changed, (N, 1, H * W); None without rule."""
        keeps = None
        if self.nodata is not None:
            keeps = (values == self.nodata).all(dim=1, keepdim=True)
        if valid is not None:
            if valid.shape != (len(images), *images.shape[2:]):
                expected = (len(images), *images.shape[2:])
                raise ValueError(f"valid must have shape {expected}, got {tuple(valid.shape)}")
            invalid = (valid == 0).flatten(1)[:, None]
            keeps = invalid if keeps is None else keeps | invalid
        return keeps

    def _look_up(self, tables: Tensor, index: Tensor, dtype: torch.dtype) -> Tensor:
        if self.normalizing is not None:
            maps = self.normalizing.expand(len(tables), -1, -1)
            return maps.gather(2, tables).gather(2, index)
        if dtype == torch.uint16:
            # Devices support few operations on uint16, but can gather it as int16.
            return tables.to(dtype).view(torch.int16).gather(2, index).view(dtype)
        return tables.to(dtype).gather(2, index)


class _Targets(nn.Module):
    """The images of a bank that have the same dtype, prepared as targets.

    float64 buffers are stored as int64 with the same bits. ``half()`` of the whole model cannot
    round them, and non-negative numbers keep their order.

    Buffers:
        shares: (E, bands, P) float64 cumulative shares of the present values, padded with infinity.
        values: (E, bands, P) int32 present values.
        chances: (E,) float64 cumulative probabilities of being drawn.
        entries: (E,) int64 indices of the images in the bank.
        rows: (images of the bank,) int64 index here of each image of the bank; E if it has another
            dtype.
        zero: () int64 zero.
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
        """Return the images that the random numbers ``shares``, float64 in [0, 1), select."""
        drawn = torch.searchsorted(self.chances, shares.view(torch.int64), right=True)
        return self.entries[drawn]

    def forward(self, counts: Tensor, targets: Tensor) -> Tensor:
        """Return the tables that match sources to targets.

        The result equals that of ``numpy.interp`` and truncation, including every rounding.

        Args:
            counts: (N, bands, levels) pixel counts of the sources.
            targets: (N,) indices of the targets in the bank.

        Returns:
            (N, bands, levels) int64 tables.
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
        # Otherwise a compiler fuses product and sum and rounds once, where numpy rounds twice.
        rise = (rise.view(torch.int64) ^ self.zero).view(torch.float64)
        return (rise + values.gather(2, below)).to(torch.int64)


def _count(index: Tensor, levels: int) -> Tensor:
    """Return the counts (N, bands, levels) int32 of the levels in (N, bands, P) int64."""
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
