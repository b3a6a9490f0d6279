"""Batches of images of each type and kind, their banks, and the same matches one by one."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rhm.colour.histogram import Histogram
from rhm.colour.histogram_bank import HistogramBank
from rhm.colour.lookup import PixelMap
from tests.imagery import KINDS, Image, drawn

TENSORS = [(np.uint8, torch.uint8), (np.uint16, torch.uint16), (np.uint16, torch.int32)]


def bank_of(dtype: type, *, bands: int = 3, seed: int = 0) -> HistogramBank:
    """A bank of two images of each kind, of different sizes."""
    rng = np.random.default_rng([seed, 1])
    sizes = [(37, 41), (16, 16)]
    return HistogramBank.from_images(
        drawn(kind, dtype, (*size, bands), rng=rng) for kind in KINDS for size in sizes
    )


def batch_of(dtype: type, *, bands: int = 3, size: tuple[int, int] = (23, 31)) -> Image:
    """One image of each kind, (5, bands, H, W)."""
    rng = np.random.default_rng([bands, *size])
    return np.stack([drawn(kind, dtype, (bands, *size), rng=rng) for kind in KINDS])


def tensor_of(images: Image, dtype: torch.dtype) -> Tensor:
    return torch.from_numpy(images.copy()).to(dtype)


def array_of(images: Tensor) -> Image:
    """The images as (N, H, W, bands), int32 as the uint16 that it stands for."""
    array = np.moveaxis(images.cpu().numpy(), 1, -1)
    return array.astype(np.uint16) if array.dtype == np.int32 else array


def one_by_one(
    images: Image,
    targets: Sequence[Histogram],
    valid: NDArray[np.bool_] | None = None,
    *,
    after: PixelMap | None = None,
) -> Iterator[Image]:
    """What the tables of one image at a time make of a batch (N, bands, H, W)."""
    for index, target in enumerate(targets):
        image = np.moveaxis(images[index], 0, -1)
        known = None if valid is None else valid[index]
        table = PixelMap.matching(Histogram.of(image, valid=known), target)
        if after is None:
            yield table.apply(image, valid=known)
        else:
            mapped = table.then(after).apply(image)
            untouched = after.apply(image)
            yield mapped if known is None else np.where(known[..., None], mapped, untouched)


def flat_bank(levels: Sequence[int], dtype: type = np.uint8) -> HistogramBank:
    """A bank whose every target turns an image into one value, which says what was drawn."""
    return HistogramBank.from_images(np.full((4, 4, 1), level, dtype=dtype) for level in levels)
