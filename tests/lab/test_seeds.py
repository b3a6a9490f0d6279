"""Seeds of parts: parts and neighbouring seeds share no draws."""

import itertools

import torch
from torch import Tensor

from rhm.adapters.weights import orthogonal_weights
from rhm.lab.deep_updates import _parts, linear_task, network_task
from rhm.lab.hybrid_networks import _initial_weights, clustered_classes
from rhm.lab.linear_separation import nearly_orthogonal_data
from rhm.lab.matrix_completion import low_rank_problem
from rhm.lab.parsimony import low_rank_target
from rhm.lab.seeds import part_seed


def test_parts_and_seeds_have_seeds_of_their_own() -> None:
    cells = list(itertools.product((0, 1, 2, 2**31), ("data", "weights", "update 0", "update 1")))
    assert len({part_seed(*cell) for cell in cells}) == len(cells)
    assert part_seed(3, "data") == part_seed(3, "data")
    assert part_seed(-1, "data") != part_seed(1, "data")


def test_initial_weights_are_not_the_cluster_centres() -> None:
    """Units would each know a cluster: nine in ten preferred one before any training."""
    samples, _ = clustered_classes(400, seed=3)
    drawn = torch.randn(64, 10, generator=torch.Generator().manual_seed(3))
    weight = _initial_weights(7, 3, 0.7, 3)[0].detach()
    for centres in (drawn, samples[::25][:64]):
        prefers = (centres @ weight.T).argmax(dim=0)
        assert (prefers == torch.arange(64)).float().mean() < 0.1


def numbers_of(tensor: Tensor) -> set[float]:
    return {round(abs(float(value)), 12) for value in tensor.flatten()}


def plain(shape: tuple[int, int], seed: int) -> Tensor:
    """What any part would draw first if it began with the seed itself."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def test_a_problem_does_not_begin_with_the_draws_of_its_weights() -> None:
    """The data of full rank are the first weights, but for their order, if both draw the same."""
    for seed in (0, 1):
        first = orthogonal_weights(
            [12, 12], 1.0, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
        )[0]
        data, _ = nearly_orthogonal_data(2, 6, 12, noise=0.0, seed=seed)
        assert not numbers_of(data) & numbers_of(first)
        for target in (
            low_rank_target(12, 1, seed=seed),
            low_rank_problem(12, 1, 0.5, seed=seed)[0],
        ):
            row = target[0] / target[0].norm()
            drawn = plain((2, 12), seed)
            likeness = (drawn @ row).abs() / drawn.norm(dim=1)
            assert likeness.max() < 0.95


def test_updates_do_not_begin_with_the_draws_of_what_they_change() -> None:
    for seed in (0, 1):
        for task in (linear_task(16, 2, seed=seed), network_task(16, 2, 20, seed=seed)):
            firsts = [part.inner[0].detach() * 4.0 for part in _parts(task, "lora", 4, seed)]
            others = [part.inner[0].detach() * 4.0 for part in _parts(task, "lora", 4, seed + 1)]
            draws = [plain((16, 16), each) for each in (seed, seed + 1)] + others
            for first, draw in itertools.product(firsts, draws):
                assert not numbers_of(first) & numbers_of(draw)
