"""Gaps in real images, filled by deep matrix completion and by what is usual.

    python benchmarks/gaps.py

The images are crops of Banepa and Kampala (``--data``, by default ``RHM_DATA`` or
``../shared/data``), into which gaps are cut: single pixels, the oblique stripes of a broken
scanner, clouds, and clouds in one band alone. A crop is taken as a matrix whose rows are its lines,
and whose columns are those of all bands side by side. It is completed by a deep network (Yaras et
al., arXiv 2306.01154, section 5) and by a truncated singular value decomposition that is fitted to
the known pixels by turns. Both choose their rank by a tenth of the known pixels, which they do not
see. What is usual knows nothing of ranks: linear and biharmonic interpolation, and, where a band is
lost alone, its linear regression on the other bands, with the error of that interpolated.

Printed is the root mean square error in the gaps, in values of 0 to 255, averaged over crops, and
the difference to the best usual way with its 95 % interval over crops.
"""

import argparse
import os
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from machine import machine, mean_and_interval
from numpy.typing import NDArray
from scipy.interpolate import LinearNDInterpolator, NearestNDInterpolator
from skimage.restoration import inpaint_biharmonic

from rhm.adapters.completion import complete_matrix
from rhm.data.layouts.folder import find_in_folder
from rhm.data.rasters.raster import Raster

Image = NDArray[np.float64]
Mask = NDArray[np.bool_]

PLACES = ("oam_banepa", "oam_kampala")
SIDE, STEP = 128, 2
"""Side of a crop in pixels, and how many pixels of the image make one of it."""
RANKS = (4, 8, 16, 24)
HELD = 0.1
DEEP_STEPS, INIT_SCALE, SVD_TURNS = 5000, 0.02, 300
GAPS = ("pixels", "stripes", "clouds", "clouds in one band")
USUAL = ("linear", "biharmonic", "regression")


def main() -> None:
    """Cut gaps into every crop, fill them in every way, and print the errors."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    data = Path(os.environ.get("RHM_DATA", "../shared/data"))
    parser.add_argument("--data", type=Path, default=data)
    parser.add_argument("--crops", type=int, default=6, help="number of crops of each place")
    asked = parser.parse_args()
    crops = [crop for place in PLACES for crop in crops_of(asked.data, place, asked.crops)]
    print(f"{machine('torch', 'scikit-image', 'scipy')}; {len(crops)} crops of {SIDE} px\n")
    ways = ", ".join(WAYS)
    print(f"| gaps | lost | {' | '.join(WAYS)} | deep over the best usual one | over svd |")
    print("|---" * (len(WAYS) + 4) + "|")
    seconds = dict.fromkeys(WAYS, 0.0)
    for gaps in GAPS:
        errors: dict[str, list[float]] = {way: [] for way in WAYS}
        lost = []
        for number, image in enumerate(crops):
            known = cut(gaps, np.random.default_rng([GAPS.index(gaps), number]))
            lost.append(1.0 - known.mean())
            for way, fill in WAYS.items():
                begun = time.process_time()
                filled = fill(image, known).clip(0.0, 255.0)
                seconds[way] += time.process_time() - begun
                errors[way].append(rmse(filled, image, ~known))
        usual = min(USUAL, key=lambda way: np.mean(errors[way]))
        shown = [f"{np.mean(errors[way]):.2f}" for way in WAYS]
        against = [
            mean_and_interval(np.subtract(errors["deep"], errors[other]), 2)
            for other in (usual, "svd")
        ]
        print(f"| {gaps} | {np.mean(lost):.0%} | {' | '.join([*shown, *against])} |", flush=True)
    each = len(crops) * len(GAPS)
    print(f"\nCPU seconds a crop, {ways}:", ", ".join(f"{s / each:.2f}" for s in seconds.values()))


def crops_of(data: Path, place: str, count: int) -> list[Image]:
    """Return crops (SIDE, SIDE, 3) of evenly spaced images without nodata."""
    sources = [s for s in find_in_folder(data, table=data / "manifest.csv") if s.domain == place]
    found = []
    for source in sources[:: max(1, len(sources) // (2 * count))]:
        with Raster(source.image) as raster:
            pixels = raster.read()
        side = SIDE * STEP
        if min(pixels.values.shape[:2]) < side or not pixels.valid[:side, :side].all():
            continue
        values = pixels.values[:side, :side, :3].astype(np.float64)
        found.append(values.reshape(SIDE, STEP, SIDE, STEP, 3).mean(axis=(1, 3)))
    return found[:count]


def cut(gaps: str, rng: np.random.Generator) -> Mask:
    """Return which values (SIDE, SIDE, 3) remain."""
    rows, columns = np.mgrid[:SIDE, :SIDE]
    known = np.ones((SIDE, SIDE, 3), dtype=bool)
    if gaps == "pixels":
        known[rng.random((SIDE, SIDE)) < 0.5] = False
    elif gaps == "stripes":
        known[(columns + 0.2 * rows + rng.integers(16)) % 16 < 4] = False
    else:
        bands = slice(None) if gaps == "clouds" else int(rng.integers(3))
        while known[..., bands].mean() > 0.8:
            row, column = rng.integers(SIDE, size=2)
            radius = rng.uniform(4.0, 12.0)
            inside = np.hypot(rows - row, columns - column) < radius
            known[inside, bands] = False
    return known


def rmse(filled: Image, image: Image, where: Mask) -> float:
    """Return the root mean square error of some values."""
    return float(np.sqrt(np.mean((filled - image)[where] ** 2)))


def linear(image: Image, known: Mask) -> Image:
    """Interpolate linearly between the known pixels of each band."""
    filled = image.copy()
    for band in range(image.shape[-1]):
        there, missing = known[..., band], ~known[..., band]
        points, values = np.argwhere(there), image[..., band][there]
        drawn = LinearNDInterpolator(points, values)(np.argwhere(missing))
        outside = np.isnan(drawn)  # beyond the outermost known pixels
        drawn[outside] = NearestNDInterpolator(points, values)(np.argwhere(missing)[outside])
        filled[..., band][missing] = drawn
    return filled


def biharmonic(image: Image, known: Mask) -> Image:
    """Solve the biharmonic equation in the gaps of each band, as scikit-image does."""
    bands = range(image.shape[-1])
    return np.stack(
        [inpaint_biharmonic(image[..., band], ~known[..., band]) for band in bands], axis=-1
    )


def regression(image: Image, known: Mask) -> Image:
    """Regress a band on the others where it is lost alone; interpolate what remains."""
    filled = biharmonic(image, known)
    for band in range(image.shape[-1]):
        others = [other for other in range(image.shape[-1]) if other != band]
        alone = ~known[..., band] & known[..., others].all(axis=-1)
        if not alone.any():
            continue
        fitted = known.all(axis=-1)
        inputs = np.dstack([image[..., others], np.ones(image.shape[:2])])
        weights, *_ = np.linalg.lstsq(inputs[fitted], image[..., band][fitted], rcond=None)
        predicted = inputs @ weights
        error = inpaint_biharmonic(image[..., band] - predicted, ~known[..., band])
        filled[..., band][alone] = (predicted + error)[alone]
    return filled


def matrix_of(image: Image) -> Image:
    """Return the lines of an image as rows, with the bands side by side."""
    return image.transpose(0, 2, 1).reshape(len(image), -1)


def image_of(matrix: Image) -> Image:
    """Return the image of a matrix."""
    return matrix.reshape(SIDE, 3, SIDE).transpose(0, 2, 1)


def svd_at(matrix: Image, known: Mask, rank: int) -> Image:
    """Return the matrix of a rank that agrees with the known values, found by turns."""
    filled = np.where(known, matrix, 0.0)
    low = filled
    for _ in range(SVD_TURNS):
        left, values, right = np.linalg.svd(filled, full_matrices=False)
        low = (left[:, :rank] * values[:rank]) @ right[:rank]
        filled = np.where(known, matrix, low)
    return low


def deep_at(matrix: Image, known: Mask, rank: int) -> Image:
    """Return what a compressed network of three layers completes."""
    # Singular values of about 10, as the network's settings presume.
    size = np.linalg.norm(np.where(known, matrix, 0.0), 2) / 10.0
    done = complete_matrix(
        matrix / size, known, rank=rank, init_scale=INIT_SCALE, max_steps=DEEP_STEPS
    )
    return size * done.product().numpy()


def by_rank(complete: Callable[[Image, Mask, int], Image]) -> Callable[[Image, Mask], Image]:
    """Return a way to fill gaps that chooses its rank by known pixels that it does not see."""

    def fill(image: Image, known: Mask) -> Image:
        matrix, there = matrix_of(image), matrix_of(known)
        # Bands differ in brightness, which is no structure of the scene.
        mean = np.repeat([matrix[:, band][there[:, band]].mean() for band in BANDS], SIDE)
        drawn = np.random.default_rng([len(GAPS), 0]).random((SIDE, SIDE, 1))  # as no gaps are
        held = matrix_of(np.repeat(drawn < HELD, 3, axis=2))
        seen, tried = there & ~held, there & held
        missed = {
            rank: rmse(complete(matrix - mean, seen, rank), matrix - mean, tried) for rank in RANKS
        }
        low = complete(matrix - mean, there, min(missed, key=lambda rank: missed[rank])) + mean
        return image_of(np.where(there, matrix, low))

    return fill


BANDS = tuple(slice(SIDE * band, SIDE * (band + 1)) for band in range(3))
WAYS: dict[str, Callable[[Image, Mask], Image]] = {
    "linear": linear,
    "biharmonic": biharmonic,
    "regression": regression,
    "svd": by_rank(svd_at),
    "deep": by_rank(deep_at),
}
"""How gaps are filled."""


if __name__ == "__main__":
    main()
