"""Least-squares lines: how compression and discrimination change with depth."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from rhm.errors import AnalysisError

_ROUNDING = 8.0 * float(np.finfo(np.float64).eps)


@dataclass(frozen=True)
class Fit:
    """A line ``y = intercept + slope x``.

    Attributes:
        slope: change of y per unit of x.
        intercept: y at x = 0.
        r_squared: share of the variance of y that the line explains; 1 if y is constant but for
            rounding.
        low: lower end of the slope's confidence interval; NaN for two points, which do not
            determine an interval.
        high: upper end of the interval.
        confidence: confidence level of the interval.
    """

    slope: float
    intercept: float
    r_squared: float
    low: float
    high: float
    confidence: float


def fit_line(
    x: Sequence[float] | NDArray[Any],
    y: Sequence[float] | NDArray[Any],
    *,
    confidence: float = 0.95,
) -> Fit:
    """Fit a line by least squares, with a t confidence interval of its slope.

    Args:
        x: (n,), such as the index of each layer.
        y: (n,), such as D_l or log C_l.
        confidence: confidence level, between 0 and 1.

    Raises:
        AnalysisError: there are fewer than two different x, or a value is not a finite number.
        ValueError: the confidence is not between 0 and 1.
    """
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"confidence must be between 0 and 1, got {confidence}")
    xs, ys = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if xs.shape != ys.shape or xs.ndim != 1 or len(np.unique(xs)) < 2:
        raise AnalysisError("fitting a line needs at least two different depths")
    if not (np.isfinite(xs).all() and np.isfinite(ys).all()):
        raise AnalysisError("fitting a line needs finite numbers, and a value is not finite")
    line = stats.linregress(xs, ys)
    flat = np.ptp(ys) <= _ROUNDING * np.abs(ys).max()
    reach = float("nan")
    if len(xs) > 2:
        error = 0.0 if flat else line.stderr
        reach = float(stats.t.ppf((1.0 + confidence) / 2.0, len(xs) - 2) * error)
    return Fit(
        slope=float(line.slope),
        intercept=float(line.intercept),
        r_squared=1.0 if flat else float(line.rvalue**2),
        low=float(line.slope - reach),
        high=float(line.slope + reach),
        confidence=confidence,
    )
