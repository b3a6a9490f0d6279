"""The cluster bootstrap: in what interval a score lies, were other ground of the kind looked at."""

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
    """Return the score of all counts, with its percentile interval under the cluster bootstrap.

    Images of one place are not independent: whole groups are drawn, with replacement (Davison
    and Hinkley, Bootstrap Methods and Their Application, 1997, section 3.8).

    Args:
        counts: N values of one kind, one per image.
        groups: N names of the ground that each image shows.
        score: a score function of ``rhm.training.metrics``, (..., n) counts -> (...) scores.
        resamples: number of draws; those whose score is undefined are left out.
        level: share of the draws that lie within.
        seed: the same seed gives the same interval.

    Returns:
        The interval, its ends None with fewer than two groups, and all of it where the score is
        not defined.

    Raises:
        ValueError: there are no counts, or not one group name for each.
    """
    if not counts or len(groups) != len(counts):
        raise ValueError(f"{len(groups)} group names for {len(counts)} counts")
    vectors = np.stack([each.vector for each in counts])
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
