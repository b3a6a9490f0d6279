"""Random numbers that are independent between the parts of an experiment."""

import numpy as np


def part_seed(seed: int, part: str) -> int:
    """Return the seed of a part of an experiment.

    If two parts began with the same seed, they would draw the same numbers: initial weights could
    be the data in another shape. And with ``seed + 1``, neighbouring seeds would share draws.

    Args:
        seed: seed of the experiment.
        part: name of the part, one for each kind of draw.
    """
    return int(np.random.SeedSequence([seed % 2**64, *part.encode()]).generate_state(1)[0])
