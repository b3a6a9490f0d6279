"""A bank of histograms: all that is kept of a target domain's imagery.

Matching needs the target's histogram and nothing else, so the unlabelled imagery of a new city
becomes a small file that can be shared where the imagery cannot.
"""

import base64
import os
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, reduce
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rhm.errors import BankError
from rhm.files import atomic_path
from rhm.histogram import Histogram

FORMAT = 1
"""Version of the bank file; a reader refuses versions above its own."""

# What numpy, zipfile and zlib raise on bytes that are not what they claim to be.
_UNREADABLE = (
    BankError,
    ArithmeticError,
    EOFError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    struct.error,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)


@dataclass(frozen=True, eq=False)
class HistogramBank:
    """Histograms of images of one domain, one entry per image.

    Attributes:
        histograms: one per image, all of the same number of bands; 8- and 16-bit may be mixed.
        names: what each entry was made from, for people to read.
    """

    histograms: tuple[Histogram, ...]
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.histograms:
            raise BankError("a histogram bank needs at least one image with valid pixels")
        bands = {histogram.bands for histogram in self.histograms}
        if len(bands) > 1:
            raise BankError(
                f"images of {sorted(bands)} bands cannot share one bank: choose the same bands"
            )
        if not self.names:
            object.__setattr__(self, "names", tuple(map(str, range(len(self.histograms)))))
        if len(self.names) != len(self.histograms):
            raise BankError(f"{len(self.names)} names for {len(self.histograms)} histograms")

    @classmethod
    def from_images(
        cls,
        images: Iterable[NDArray[Any]],
        nodata: float | None = None,
        *,
        names: Sequence[str] = (),
    ) -> "HistogramBank":
        """Build a bank from images (H, W[, C]), one at a time; nodata is not counted.

        Images without a single valid pixel are left out, with their names. Names are by default
        the images' numbers, from 0.

        Raises:
            BankError: no image has valid pixels, or the numbers of bands differ, or there are
                not as many names as images.
            TypeError: an image is neither uint8 nor uint16.
        """
        every = cls(tuple(Histogram.of(image, nodata) for image in images), tuple(names))
        kept = [index for index, histogram in enumerate(every.histograms) if histogram.pixels]
        return cls(
            tuple(every.histograms[index] for index in kept),
            tuple(every.names[index] for index in kept),
        )

    def __len__(self) -> int:
        return len(self.histograms)

    @property
    def bands(self) -> int:
        """The number of bands."""
        return self.histograms[0].bands

    @property
    def dtypes(self) -> tuple[np.dtype[Any], ...]:
        """The dtypes among the entries, each once, 8-bit first."""
        present = {histogram.dtype for histogram in self.histograms}
        return tuple(sorted(present, key=lambda dtype: dtype.itemsize))

    @cached_property
    def pooled(self) -> dict[np.dtype[Any], Histogram]:
        """All pixels together, one histogram per dtype."""
        return {
            dtype: reduce(Histogram.merge, histograms)
            for dtype, histograms in self._of_dtype.items()
        }

    @cached_property
    def _of_dtype(self) -> dict[np.dtype[Any], tuple[Histogram, ...]]:
        return {
            dtype: tuple(histogram for histogram in self.histograms if histogram.dtype == dtype)
            for dtype in self.dtypes
        }

    def merge(self, other: "HistogramBank") -> "HistogramBank":
        """Return the bank of both sets of images.

        Raises:
            BankError: their numbers of bands differ.
        """
        return HistogramBank(self.histograms + other.histograms, self.names + other.names)

    def sample(self, *, dtype: np.dtype[Any] | None = None, rng: np.random.Generator) -> Histogram:
        """Draw one image's histogram, each with the same probability.

        Args:
            dtype: draw among the images of this dtype only.
            rng: the source of the draw.

        Raises:
            BankError: the bank holds no image of the dtype.
        """
        eligible = self.histograms if dtype is None else self._of_dtype.get(np.dtype(dtype), ())
        if not eligible:
            raise BankError(
                f"a bank of {', '.join(map(str, self.dtypes))} imagery has no target for {dtype} "
                "images: build it from imagery of the same type"
            )
        return eligible[int(rng.integers(len(eligible)))]

    def distance(self, histogram: Histogram) -> NDArray[np.float64]:
        """Return the 1-Wasserstein distance from the bank's pooled pixels to ``histogram``.

        Returns:
            (bands,) float64, in value units.

        Raises:
            BankError: the bank holds no image of the histogram's dtype and bands.
        """
        pooled = self.pooled.get(histogram.dtype)
        if pooled is None or pooled.bands != histogram.bands:
            raise BankError(
                f"the bank holds {self.bands} x {', '.join(map(str, self.dtypes))}, "
                f"which has no distance to {histogram.bands} x {histogram.dtype}"
            )
        return pooled.distance(histogram)

    def to_dict(self) -> dict[str, Any]:
        """Return the bank as JSON-ready values, which ``from_dict`` reads back exactly."""
        arrays = self._arrays()
        counts = zlib.compress(arrays.pop("counts").tobytes())
        plain = {name: array.tolist() for name, array in arrays.items()}
        return plain | {"counts": base64.b64encode(counts).decode("ascii")}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "HistogramBank":
        """Read what ``to_dict`` wrote.

        Raises:
            BankError: the values do not describe a bank.
        """
        try:
            counts = zlib.decompress(base64.b64decode(values["counts"]))
            arrays = {name: np.asarray(value) for name, value in values.items() if name != "counts"}
            return cls._of_arrays(arrays | {"counts": np.frombuffer(counts, dtype="<u8")})
        except _UNREADABLE as error:
            raise BankError(f"not a histogram bank: {_one_line(error)}") from error

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the bank to one compressed file, complete or not at all.

        Raises:
            OutputError: the file cannot be written.
        """
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, **self._arrays())  # type: ignore[arg-type]

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "HistogramBank":
        """Read a bank file; never unpickles.

        Raises:
            BankError: the file is missing, or not a bank of a version known here.
        """
        if not Path(path).is_file():
            raise BankError(f"no histogram bank at {path}: build one with `rhm bank build`")
        try:
            with Path(path).open("rb") as file:
                # numpy takes what is no archive for a pickle, and says so to the puzzled user.
                if not zipfile.is_zipfile(file):
                    raise ValueError("it is damaged or of another kind")
                file.seek(0)
                with np.load(file, allow_pickle=False) as arrays:
                    return cls._of_arrays(dict(arrays))
        except _UNREADABLE as error:
            raise BankError(
                f"{path} cannot be read as a histogram bank: {_one_line(error)}; "
                "build it anew with `rhm bank build`"
            ) from error

    def _arrays(self) -> dict[str, NDArray[Any]]:
        return {
            "format": np.array(FORMAT),
            "bands": np.array(self.bands),
            "names": np.array(self.names, dtype=np.str_),
            "dtypes": np.array([histogram.dtype.name for histogram in self.histograms]),
            "levels": np.array([histogram.counts.shape[1] for histogram in self.histograms]),
            "counts": np.concatenate([h.counts.ravel() for h in self.histograms]).astype("<u8"),
        }

    @classmethod
    def _of_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> "HistogramBank":
        version = int(arrays["format"])
        if version > FORMAT:
            raise ValueError(f"written by a later version (format {version}, known {FORMAT})")
        if any(arrays[name].dtype.kind not in "iu" for name in ("bands", "levels", "counts")):
            raise ValueError("its counts and sizes are not integers")
        bands, counts = int(arrays["bands"]), arrays["counts"].astype(np.int64)
        sizes = bands * arrays["levels"].astype(np.int64)
        if bands < 1 or (sizes < 1).any() or sizes.sum() != counts.size:
            raise ValueError("its sizes contradict each other")
        pieces = np.split(counts, np.cumsum(sizes)[:-1])
        histograms = tuple(
            Histogram(piece.reshape(bands, -1), np.dtype(str(dtype)))
            for piece, dtype in zip(pieces, arrays["dtypes"], strict=True)
        )
        if not all(histogram.pixels for histogram in histograms):
            raise ValueError("an entry counts no pixels")
        return cls(histograms, tuple(map(str, arrays["names"])))


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())
