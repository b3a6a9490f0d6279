"""The cluster bootstrap: confidence intervals of scores over groups of images."""

from collections.abc import Callable, Sequence

import numpy as np
from scipy.special import ndtr, stdtrit

from rhm.evaluation.scores import Interval, finite
from rhm.training.metrics import Counts, FloatArray

_MANY_GROUPS = 50
_MANY_DRAWS, _FEW_DRAWS = 10_000, 1000


def bootstrap_interval(
    counts: Sequence[Counts],
    groups: Sequence[str],
    score: Callable[[FloatArray], FloatArray],
    *,
    resamples: int | None = None,
    level: float = 0.95,
    seed: int,
) -> Interval:
    """Return the score of all counts, with its expanded percentile interval from cluster bootstrap.

    Images of the same place are not independent, so whole groups are drawn with replacement
    (Davison and Hinkley, Bootstrap Methods and Their Application, 1997, section 3.8). The plain
    percentiles of few groups are too narrow, see ``expanded_tail``.

    Args:
        counts: counts of N images, all of the same type.
        groups: name of the group of each image, N in total.
        score: score function of ``rhm.training.metrics``, from (..., n) counts to (...) scores.
        resamples: number of draws; draws with an undefined score are ignored. By default 10 000
            of fewer than 50 groups, whose percentiles lie far out, and 1000 of more.
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
    if resamples is None:
        resamples = _MANY_DRAWS if len(names) < _MANY_GROUPS else _FEW_DRAWS
    rng = np.random.default_rng(seed)
    draws = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=resamples)
    resampled = np.asarray(score(draws @ per_group))
    resampled = resampled[~np.isnan(resampled)]
    if len(names) < 2 or not resampled.size:
        return Interval(value, None, None)
    tail = expanded_tail(len(names), level)
    low, high = np.quantile(resampled, [tail, 1 - tail])
    return Interval(value, finite(low), finite(high))


def expanded_tail(count: int, level: float = 0.95) -> float:
    """Return the share of bootstrap draws beyond either end of an expanded percentile interval.

    Draws of n clusters vary less than the score does, by the factor sqrt((n - 1) / n), and their
    percentiles allow for a known variance, where n clusters only estimate it. The expanded
    percentiles allow for both, so that the interval of a mean is as wide as Student's (Hesterberg,
    "What teachers should know about the bootstrap", The American Statistician 69, 2015).

    Args:
        count: number of clusters, at least two.
        level: confidence level of the interval.
    """
    return float(ndtr(np.sqrt(count / (count - 1)) * stdtrit(count - 1, (1 - level) / 2)))
