"""Histogram matching, single-threaded, compared with the libraries in common use.

    python benchmarks/matching.py

A 512 x 512 x 3 image is matched to a target. ``rhm`` is given the histogram of the target, as
stored in a bank; the other libraries need the image of the target.
"""

import os

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

import albumentations as A
import cv2
import numpy as np
from machine import machine, medians_ms
from skimage.exposure import match_histograms

from rhm import Histogram, PixelMap


def images(dtype: type, top: int) -> tuple[np.ndarray, np.ndarray]:
    """Return a source and a target of different distributions."""
    rng = np.random.default_rng(0)
    source = (rng.beta(2, 5, (512, 512, 3)) * top).astype(dtype)
    target = (rng.beta(5, 3, (512, 512, 3)) * top).astype(dtype)
    return source, target


def main() -> None:
    """Print the table."""
    cv2.setNumThreads(1)
    source, target = images(np.uint8, 256)
    known = Histogram.of(target)
    normalize = PixelMap.normalize((0,) * 3, (255,) * 3, np.uint8, mean=(0.5,), std=(0.5,))
    gamma = PixelMap.gamma(1.2, np.uint8, 3)
    theirs = A.HistogramMatching(blend_ratio=(1.0, 1.0), p=1.0, metadata_key="targets")
    steps = A.Compose(
        [
            A.HistogramMatching(blend_ratio=(1.0, 1.0), p=1.0, metadata_key="targets"),
            A.RandomGamma(gamma_limit=(120, 120), p=1.0),
            A.Normalize(mean=(0.5,) * 3, std=(0.5,) * 3, p=1.0),
        ]
    )
    deep, deep_target = images(np.uint16, 2048)
    deep_known = Histogram.of(deep_target)

    def match() -> np.ndarray:
        return PixelMap.matching(Histogram.of(source), known).apply(source)

    def whole() -> np.ndarray:
        match = PixelMap.matching(Histogram.of(source), known)
        return match.then(gamma).then(normalize).apply(source)

    def match_deep() -> np.ndarray:
        return PixelMap.matching(Histogram.of(deep), deep_known).apply(deep)

    np.testing.assert_array_equal(match(), match_histograms(source, target, channel_axis=-1))
    table = np.zeros((1, 256, 3), np.float32)
    measured = medians_ms(
        {
            "uint8 match: rhm": match,
            "uint8 match: scikit-image": lambda: match_histograms(source, target, channel_axis=-1),
            "uint8 match: albumentations": lambda: theirs(image=source, targets=[target]),
            "uint8 match + gamma + normalise: rhm, one table": whole,
            "uint8 match + gamma + normalise: albumentations": lambda: steps(
                image=source, targets=[target]
            ),
            "floor: histogram + one lookup": lambda: (
                [cv2.calcHist([source], [band], None, [256], [0, 256]) for band in range(3)],
                cv2.LUT(source, table),
            ),
            "uint16 (11 bit) match: rhm": match_deep,
            "uint16 (11 bit) match: scikit-image": lambda: match_histograms(
                deep, deep_target, channel_axis=-1
            ),
        }
    )
    packages = ("numpy", "opencv-python-headless", "scikit-image", "albumentations")
    print(machine(*packages))
    for name, milliseconds in measured.items():
        print(f"{name:<52} {milliseconds:7.2f} ms")


if __name__ == "__main__":
    main()
