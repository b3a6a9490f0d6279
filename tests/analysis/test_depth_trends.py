"""Lines by least squares; oracle: the definitions, and intervals that hold as often as they say."""

import numpy as np
import pytest

from rhm.analysis.depth_trends import fit_line
from rhm.errors import AnalysisError


def test_a_line_is_found_again() -> None:
    fit = fit_line(range(6), [3.0 - 2.0 * x for x in range(6)])
    assert fit.slope == pytest.approx(-2.0)
    assert fit.intercept == pytest.approx(3.0)
    assert fit.r_squared == pytest.approx(1.0)
    assert fit.low == pytest.approx(-2.0)
    flat = fit_line([1, 2, 3], [5.0, 5.0, 5.0])
    assert (flat.r_squared, flat.low, flat.high) == (1.0, 0.0, 0.0)
    with pytest.raises(ValueError, match="confidence must be between 0 and 1"):
        fit_line([0, 1, 2], [0, 1, 2], confidence=95)
    assert np.isnan(fit_line([0, 1], [0.0, 1.0]).low)


def test_the_interval_holds_the_slope_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    x = np.arange(8.0)
    held = 0
    for _ in range(800):
        fit = fit_line(x, 0.3 * x + rng.normal(size=8), confidence=0.9)
        held += fit.low <= 0.3 <= fit.high
    # Four standard deviations of 800 draws.
    assert abs(held / 800 - 0.9) < 4 * np.sqrt(0.09 / 800)


def test_r_squared_is_the_share_explained() -> None:
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=20), rng.normal(size=20)
    fit = fit_line(x, y)
    rest = y - fit.intercept - fit.slope * x
    assert fit.r_squared == pytest.approx(1 - (rest**2).sum() / ((y - y.mean()) ** 2).sum())


@pytest.mark.parametrize(
    ("x", "y"),
    [
        ([1], [1]),
        ([1, 1], [1, 2]),
        ([1, 2], [1, 2, 3]),
        ([0, 1], [1, np.nan]),
        ([0, 1], [1, np.inf]),
    ],
)
def test_what_gives_no_line_is_refused(x: list[float], y: list[float]) -> None:
    with pytest.raises(AnalysisError, match="fitting a line needs"):
        fit_line(x, y)


def test_a_line_that_is_flat_but_for_rounding_is_a_line() -> None:
    fit = fit_line([0, 1, 2, 3], [0.3, 0.1 + 0.2, 0.3, 0.3])
    assert fit.r_squared == 1.0
    assert fit.low == pytest.approx(fit.high)
