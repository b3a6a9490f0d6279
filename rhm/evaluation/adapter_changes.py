"""What an adaptation has changed: the updates of a run, layer by layer and on the way."""

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
    """The updates of one adapted model.

    Attributes:
        model: its name.
        method: how it was adapted.
        steps: optimiser steps at which its updates were recorded, ascending.
        layers: the finished updates, the largest first, by norm relative to the weight.
        angles: by layer, for each of ``steps``, the angle in degrees between the leading
            directions then and in the finished model; None where there was no update yet.
    """

    model: str
    method: str
    steps: tuple[int, ...]
    layers: tuple[UpdateSpectrum, ...]
    angles: Mapping[str, tuple[float | None, ...]]

    @property
    def median_rank(self) -> float:
        """Median over the layers of the directions that hold 95 % of an update."""
        return float(median(each.effective_rank for each in self.layers))

    @property
    def largest_rank(self) -> int:
        """The most directions that an update could have."""
        return max(len(each.singular_values) for each in self.layers)

    def spectrum(self, quantile: float) -> tuple[float, ...]:
        """Return a quantile over the layers of each singular value, as a share of the first."""
        found = []
        for index in range(self.largest_rank):
            shares = [
                each.singular_values[index] / each.singular_values[0]
                for each in self.layers
                if index < len(each.singular_values) and each.effective_rank
            ]
            found.append(float(np.quantile(shares, quantile)) if shares else 0.0)
        return tuple(found)

    def angle(self, quantile: float) -> tuple[float | None, ...]:
        """Return a quantile over the layers of the angle at each recorded step."""
        found: list[float | None] = []
        for index in range(len(self.steps)):
            known = [a for each in self.angles.values() if (a := each[index]) is not None]
            found.append(float(np.quantile(known, quantile)) if known else None)
        return tuple(found)

    def to_dict(self) -> dict[str, Any]:
        """Return the findings as plain values."""
        return asdict(self)


def inspect_adaptation(folder: Path, name: str) -> Adaptation | None:
    """Return what is recorded of the updates in a run's folder; None where nothing is.

    Args:
        folder: of the run.
        name: of the model, as it is shown.

    Raises:
        ModelFileError: a recorded file is damaged.
        ConfigError: the run's configuration is.
    """
    run = Run(folder)
    recorded = recorded_updates(run.updates)
    if recorded is None:
        return None
    on_the_way, final = recorded
    layers = sorted(spectra(final), key=lambda each: each.relative_norm, reverse=True)
    angles = angles_to_final(on_the_way, final)
    return Adaptation(
        model=name,
        method=run.config.adapter.method,
        steps=tuple(each.step for each in on_the_way),
        layers=tuple(layers),
        angles={layer: tuple(found) for layer, found in angles.items()},
    )
