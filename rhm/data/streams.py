"""Random streams, one per sample of a run."""

import numpy as np


class SampleStreams:
    """The random numbers of every sample, from the seed and the sample's index alone.

    Philox, which encrypts a counter (Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as
    easy as 1, 2, 3", SC 2011): the seed is its key, and the index a part of the counter, so that
    streams never meet. One generator is moved from stream to stream, which costs a tenth of
    making a new one.

    Args:
        seed: of the run.
    """

    def __init__(self, seed: int) -> None:
        self._generator = np.random.Generator(np.random.Philox(np.random.SeedSequence(seed)))
        self._start = self._generator.bit_generator.state

    def __getitem__(self, index: int) -> np.random.Generator:
        """Return the generator, at the beginning of a sample's stream, until the next call."""
        # Of the counter's four words, drawing moves on the first and, after 2^64 draws, the
        # second.
        self._start["state"]["counter"][:] = (0, 0, index, 0)
        self._generator.bit_generator.state = self._start
        return self._generator
