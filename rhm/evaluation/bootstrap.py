"""The cluster bootstrap: confidence intervals of scores over groups of images."""

from collections.abc import Callable, Sequence

import numpy as np

from rhm.evaluation.scores import Interval, finite
from rhm.training.metrics import Counts, FloatArray


def bootstrap_interval(
    counts: Sequence[Counts],
    groups: Sequence[str],
    score: Callable[[FloatArray], FloatArray],
    *,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int,
) -> Interval:
    """Return the score of all counts, with its percentile interval from the cluster bootstrap.

    Images of the same place are not independent, so whole groups are drawn with replacement
    (Davison and Hinkley, Bootstrap Methods and Their Application, 1997, section 3.8).

    Args:
        counts: counts of N images, all of the same type.
        groups: name of the group of each image, N in total.
        score: score function of ``rhm.training.metrics``, from (..., n) counts to (...) scores.
        resamples: number of draws; draws with an undefined score are ignored.
        level: confidence level of the interval.
        seed: seed of the draws.

    Returns:
        The score with its interval. The ends are None with fewer than two groups, and everything
        is None if the score is undefined.

    Raises:
        ValueError: there are no counts, or the numbers of counts and groups differ.
    """
    if not counts or len(groups) != len(counts):
        raise ValueError(
            f"expected one group name per image, and at least one image, got {len(groups)} names "
            f"for {len(counts)} images"
        )
    vectors = np.stack([of_image.vector for of_image in counts])
    names, group = np.unique(np.array(list(groups)), return_inverse=True)
    per_group = np.zeros((len(names), vectors.shape[1]))
    np.add.at(per_group, group, vectors)
    value = finite(float(score(per_group.sum(axis=0))))
    rng = np.random.default_rng(seed)
    draws = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=resamples)
    resampled = np.asarray(score(draws @ per_group))
    resampled = resampled[~np.isnan(resampled)]
    if len(names) < 2 or not resampled.size:
        return Interval(value, None, None)
    low, high = np.quantile(resampled, [(1 - level) / 2, (1 + level) / 2])
    return Interval(value, finite(low), finite(high))
