"""Seeds of parts: parts and neighbouring seeds share no draws."""

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch

from rhm.lab import deep_updates, hybrid_networks, linear_separation, matrix_completion, parsimony
from rhm.lab.seeds import part_seed


def test_parts_and_seeds_have_seeds_of_their_own() -> None:
    cells = list(itertools.product((0, 1, 2, 2**31), ("data", "weights", "update 0", "update 1")))
    assert len({part_seed(*cell) for cell in cells}) == len(cells)
    assert part_seed(3, "data") == part_seed(3, "data")
    assert part_seed(-1, "data") != part_seed(1, "data")


def completion(seed: int) -> None:
    matrix_completion.run_matrix_completion(size=16, rank=1, known=0.8, max_steps=1, seed=seed)


def separation(seed: int) -> None:
    samples, labels = linear_separation.nearly_orthogonal_data(2, 5, 20, seed=seed)
    linear_separation.separate(samples, labels, max_steps=1, seed=seed)


def updates(seed: int) -> None:
    deep_updates.run_deep_updates(width=8, rank=1, samples=(8,), ranks=(2,), steps=1, seed=seed)


EXPERIMENTS: dict[str, tuple[Any, Callable[[int], object]]] = {
    "separation": (linear_separation, separation),
    "hybrid": (
        hybrid_networks,
        lambda seed: hybrid_networks.train_network(steps=1, per_class=5, seed=seed),
    ),
    "completion": (matrix_completion, completion),
    "parsimony": (parsimony, lambda seed: parsimony.run_parsimony(steps=10, seed=seed)),
    "updates": (deep_updates, updates),
}


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_part_of_an_experiment_draws_its_own_numbers(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No generator that a part makes may begin where that of another part does."""
    module, run = EXPERIMENTS[name]
    parts: dict[int, set[str]] = {}

    def noted(seed: int, part: str) -> int:
        drawn = part_seed(seed, part)
        parts.setdefault(drawn, set()).add(part)
        return drawn

    begun: list[int] = []
    seeded = torch.Generator.manual_seed

    class Noted(torch.Generator):
        def manual_seed(self, seed: int) -> torch.Generator:
            begun.append(seed)
            return seeded(self, seed)

    monkeypatch.setattr(module, "part_seed", noted)
    monkeypatch.setattr(torch, "Generator", Noted)
    run(5)
    assert parts
    assert all(len(names) == 1 for names in parts.values())
    # At most the initial weights begin with the seed itself.
    assert set(begun) <= {*parts, 5}
    assert len(set(begun)) >= 2
    assert 5 not in parts


def test_initial_weights_are_not_the_cluster_centres() -> None:
    """Units would each know a cluster: nine in ten preferred one before any training."""
    weight = hybrid_networks._initial_weights(7, 3, 0.7, 3)[0].detach()
    for seed in (3, part_seed(3, "data")):
        centres = torch.randn(64, 10, generator=torch.Generator().manual_seed(seed))
        prefers = (centres @ weight.T).argmax(dim=0)
        assert (prefers == torch.arange(64)).float().mean() < 0.1
