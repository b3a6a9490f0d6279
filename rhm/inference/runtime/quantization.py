"""The quantisation of a model: the ranges of its values on imagery, and what 8 bits cost.

It is kept as JSON beside the model file, or in rhm's cache if that folder cannot be written to,
under a name with a hash of the weights. Only numbers are kept: the graph is made again from the
model, so that no file but the model's determines what is executed.
"""

import hashlib
import json
import math
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rhm.documents import read_json
from rhm.errors import OutputError
from rhm.files import write_text
from rhm.models.named_models import is_shipped, model_file
from rhm.system import cache_folder

FORMAT = 1
"""Format number of the file; readers refuse others."""

MOST_LOSS = 0.01
"""Largest loss of IoU with which a quantisation is used."""


@dataclass(frozen=True)
class Quantization:
    """The ranges of a model's intermediate results, and the IoU before and after.

    Attributes:
        weights: hash of the model's weights, from ``identity_of``.
        ranges: smallest and largest value of every intermediate result, by its name in the graph.
        tiles: number of tiles that the ranges were measured on.
        measure: the IoU that was measured: ``validation`` (with labels) or ``expected`` (by the
            probabilities of the model before, without labels).
        before: this IoU of the masks by the model as it was trained.
        after: this IoU of the masks by the quantised model.
        agreement: IoU of both masks with each other.
        format: ``FORMAT``.
    """

    weights: str
    ranges: dict[str, tuple[float, float]]
    tiles: int
    measure: str
    before: float
    after: float
    agreement: float
    format: int = FORMAT

    def to_json(self) -> str:
        """Return the text of the file."""
        return json.dumps(asdict(self), indent=1, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, values: Any) -> "Quantization":
        """Return the quantisation in the parsed JSON of a file, which is not trusted.

        Raises:
            ValueError: it is not one, or of another format.
        """
        try:
            texts = (values["weights"], values["measure"])
            ranges = {name: (low, high) for name, (low, high) in values["ranges"].items()}
            shares = (values["before"], values["after"], values["agreement"])
            numbers = [*(bound for bounds in ranges.values() for bound in bounds), *shares]
            found = cls(**values | {"ranges": ranges})
        except (AttributeError, LookupError, TypeError) as error:
            raise ValueError("not a quantisation") from error
        fits = all(isinstance(text, str) for text in texts) and type(found.tiles) is int
        if not fits or found.format != FORMAT or not all(map(_is_number, numbers)):
            raise ValueError("not a quantisation")
        return found

    @property
    def loss(self) -> float:
        """Loss of IoU by the quantisation."""
        return self.before - self.after

    @property
    def key(self) -> str:
        """Hash of everything that determines the quantised graph, besides the model."""
        return hashlib.sha256(repr(sorted(self.ranges.items())).encode()).hexdigest()

    def told(self) -> str:
        """Return the result in a sentence."""
        kind = "IoU on labelled images" if self.measure == "validation" else "expected IoU"
        return (
            f"int8: {kind} {self.before:.4f} before and {self.after:.4f} after quantisation; both "
            f"masks agree with an IoU of {self.agreement:.4f}"
        )


def kept_quantization(model: str | os.PathLike[str], weights: str) -> Quantization | None:
    """Return the quantisation that is kept for a model, or None.

    Args:
        model: model file, folder of its run, or name.
        weights: hash of the weights.
    """
    for file in _files(model, weights):
        try:
            found = Quantization.from_json(read_json(file))
        except (OSError, ValueError):
            continue
        if found.weights == weights and found.loss <= MOST_LOSS:
            return found
    return None


def keep_quantization(model: str | os.PathLike[str], quantization: Quantization) -> Path | None:
    """Keep a quantisation beside its model or in the cache; return its file, or None.

    Args:
        model: model file, folder of its run, or name.
        quantization: quantisation of the model.
    """
    for file in _files(model, quantization.weights):
        try:
            write_text(file, quantization.to_json())
        except OutputError:
            continue
        return file
    return None


def _is_number(value: object) -> bool:
    return type(value) in (int, float) and math.isfinite(value)  # type: ignore[arg-type]


def _files(model: str | os.PathLike[str], weights: str) -> Iterator[Path]:
    name = f"int8-{weights[:16]}.json"
    file = model_file(model)
    if not is_shipped(file):  # the installation is only read
        yield file.with_name(f"{file.stem}.{name}")
    yield cache_folder() / "quantizations" / name
