"""How often do 95 % intervals of few groups hold the truth: plain and expanded percentiles?

    python benchmarks/intervals.py

Groups of images differ in size (log-normal) and in IoU (logit-normal), as places do. Many times, a
few groups are drawn, and an interval for the IoU of all of them together is computed: from the
plain percentiles of the cluster bootstrap, and from the expanded ones of ``rhm evaluate``. The
truth is the IoU over a very large number of groups.
"""

import numpy as np
from numpy.typing import NDArray

from rhm.evaluation.bootstrap import expanded_tail

GROUPS = (2, 3, 4, 5, 7, 10, 20, 40)
SPREADS = {"alike": (0.6, 0.7), "unlike": (1.0, 1.2)}
"""Standard deviations of the logit of the IoU and of the logarithm of the size."""

TRIALS, RESAMPLES, LEVEL = 1500, 2000, 0.95
_SEED = 0


def main() -> None:
    """Print how often intervals hold the truth, and how wide they are."""
    rng = np.random.default_rng(_SEED)
    columns = "groups | plain | median width | expanded | median width"
    print(f"| groups are | {columns} |")
    print("|---" * 6 + "|")
    for name, spread in SPREADS.items():
        hits, unions = drawn(rng, (2_000_000,), spread)
        truth = float(hits.sum() / unions.sum())
        for count in GROUPS:
            hits, unions = drawn(rng, (TRIALS, count), spread)
            picked = rng.multinomial(count, np.full(count, 1 / count), size=RESAMPLES)
            scores = (picked @ hits.T) / (picked @ unions.T)
            cells = []
            for tail in ((1 - LEVEL) / 2, expanded_tail(count, LEVEL)):
                low, high = np.quantile(scores, [tail, 1 - tail], axis=0)
                held = np.mean((low <= truth) & (truth <= high))
                cells += [f"{held:.0%}", f"{np.median(high - low):.2f}"]
            print(f"| {name} | {count} | {' | '.join(cells)} |")


def drawn(
    rng: np.random.Generator, shape: tuple[int, ...], spread: tuple[float, float]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return hits and unions of groups."""
    of_iou, of_size = spread
    unions = np.exp(rng.normal(0.0, of_size, shape))
    return unions / (1.0 + np.exp(-rng.normal(0.2, of_iou, shape))), unions


if __name__ == "__main__":
    main()
