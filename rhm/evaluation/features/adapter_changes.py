"""Changes made by an adaptation: the updates of a run, layer by layer and during training."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from rhm.adapters.spectra import UpdateSpectrum, angles_to_final, spectra
from rhm.training.callbacks.update_recorder import recorded_updates
from rhm.training.run import Run


@dataclass(frozen=True)
class Adaptation:
    """The updates of an adapted model.

    Attributes:
        model: name of the model.
        method: adaptation method.
        steps: optimiser steps at which the updates were recorded, rising.
        layers: final updates, sorted by their norm relative to the weight, largest first.
        angles: for each layer and each of ``steps``, the angle in degrees between the leading
            directions at that step and in the final model; None if there was no update yet.
    """

    model: str
    method: str
    steps: tuple[int, ...]
    layers: tuple[UpdateSpectrum, ...]
    angles: Mapping[str, tuple[float | None, ...]]

    @property
    def median_rank(self) -> float:
        """Median over the layers of the number of directions with 95 % of an update's energy."""
        return float(median(layer.effective_rank for layer in self.layers))

    @property
    def largest_rank(self) -> int:
        """Largest number of directions that an update can have."""
        return max(len(layer.singular_values) for layer in self.layers)

    def spectrum(self, quantile: float) -> tuple[float, ...]:
        """Return a quantile over the layers of each singular value, as a share of the first."""
        found = []
        for index in range(self.largest_rank):
            shares = [
                layer.singular_values[index] / layer.singular_values[0]
                for layer in self.layers
                if index < len(layer.singular_values) and layer.effective_rank
            ]
            found.append(float(np.quantile(shares, quantile)) if shares else 0.0)
        return tuple(found)

    def angle(self, quantile: float) -> tuple[float | None, ...]:
        """Return a quantile over the layers of the angle at each recorded step."""
        found: list[float | None] = []
        for index in range(len(self.steps)):
            known = [a for angles in self.angles.values() if (a := angles[index]) is not None]
            found.append(float(np.quantile(known, quantile)) if known else None)
        return tuple(found)

    def to_dict(self) -> dict[str, Any]:
        """Return the findings as plain values."""
        return asdict(self)


def inspect_adaptation(folder: Path, name: str) -> Adaptation | None:
    """Return the updates that a run recorded, or None if it recorded none.

    Args:
        folder: folder of the run.
        name: name of the model in tables and charts.

    Raises:
        ModelFileError: a recorded file is damaged.
        ConfigError: the configuration of the run is damaged.
    """
    run = Run(folder)
    recorded = recorded_updates(run.updates)
    if recorded is None:
        return None
    on_the_way, final = recorded
    layers = sorted(spectra(final), key=lambda layer: layer.relative_norm, reverse=True)
    angles = angles_to_final(on_the_way, final)
    return Adaptation(
        model=name,
        method=run.config.adapter.method,
        steps=tuple(record.step for record in on_the_way),
        layers=tuple(layers),
        angles={layer: tuple(found) for layer, found in angles.items()},
    )
