"""The law of parsimony: what theorem 1 of arXiv 2306.01154 says does not move, does not."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rhm.adapters.linear_network import DeepLinearNetwork
from rhm.errors import ConfigError
from rhm.lab.parsimony import Parsimony, follow, low_rank_target, run_parsimony


@pytest.fixture(scope="module")
def result() -> Parsimony:
    return run_parsimony()


def test_the_middle_subspaces_stay_over_the_whole_of_training(result: Parsimony) -> None:
    assert result.left_angles.shape == result.right_angles.shape == (61, 3)
    assert result.largest_angle < 1e-5
    assert result.middle_spread.max() < 1e-12


def test_meanwhile_2r_singular_vector_pairs_move(result: Parsimony) -> None:
    values, rank = result.singular_values, result.rank
    np.testing.assert_allclose(values[0], 0.3, rtol=1e-9)
    middle = values[-1, :, rank]
    assert (values[-1, :, :rank] > 3.0 * middle[:, None]).all()
    assert (values[-1, :, -rank:] < 0.9 * middle[:, None]).all()
    assert result.leading_angles[-1].min() > 0.1


def test_the_compressed_network_is_the_wide_one_on_what_moves(result: Parsimony) -> None:
    assert result.compressed_distance.max() < 1e-10
    assert result.loss[-1] < 1e-3 * result.loss[0]
    assert result.compressed_loss[-1] < result.loss[-1]
    assert (np.diff(result.loss) < 0.0).all()


@settings(max_examples=15)
@given(
    rank=st.integers(1, 3),
    depth=st.integers(2, 4),
    init_scale=st.floats(0.2, 1.0),
    seed=st.integers(0, 99),
)
def test_the_law_holds_for_any_start(rank: int, depth: int, init_scale: float, seed: int) -> None:
    found = run_parsimony(
        width=12, rank=rank, depth=depth, init_scale=init_scale, steps=100, seed=seed
    )
    assert found.largest_angle < 1e-5
    assert found.middle_spread.max() < 1e-12
    assert found.compressed_distance.max() < 1e-9


def test_the_law_does_not_hold_for_any_matrix() -> None:
    """A start that is not orthogonal, or a target of higher rank, moves everything."""
    target = low_rank_target(20, 6)
    network = DeepLinearNetwork.orthogonal([20] * 4, init_scale=0.3, dtype=torch.float64)
    assert follow(network, target, 6).largest_angle < 1e-5
    assert follow(network, target, 3).largest_angle > 0.1


def test_the_network_is_left_as_it_is() -> None:
    network = DeepLinearNetwork.orthogonal([10] * 3, init_scale=0.5, dtype=torch.float64)
    before = network.product().detach().clone()
    found = follow(network, low_rank_target(10, 2), 2, steps=7, record_every=3)
    assert torch.equal(network.product(), before)
    assert found.steps.tolist() == [0, 3, 6, 7]


def test_the_same_seed_gives_the_same_result(result: Parsimony) -> None:
    np.testing.assert_array_equal(run_parsimony().singular_values, result.singular_values)
    assert not np.array_equal(run_parsimony(seed=1).loss, result.loss)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"rank": 15},
            "rank 15 leaves no middle singular values at width 30: choose a rank from 1 to 14",
        ),
        ({"rank": 31}, "rank 31 must be from 1 to the width 30"),
        ({"rank": 0}, "rank 0 must be from 1"),
        ({"depth": 1}, "depth 1 must be at least 2"),
        ({"steps": 0}, "steps 0"),
        ({"init_scale": 0.0}, "init_scale 0.0 must be greater than 0"),
        ({"init_scale": 20.0}, "choose a step_size below"),
        ({"width": 10**6}, "3 layers of width 1000000 have .* numbers to record, more than 50,000"),
        ({"depth": 10**6}, "1000000 layers of width 30 have"),
    ],
)
def test_impossible_settings_are_refused_in_one_line(
    changes: dict[str, int | float], message: str
) -> None:
    with pytest.raises(ConfigError, match=message) as error:
        run_parsimony(**changes)  # type: ignore[arg-type]
    assert "\n" not in str(error.value)


def test_layers_of_another_shape_are_a_mistake() -> None:
    network = DeepLinearNetwork.orthogonal([10, 8, 10])
    with pytest.raises(ValueError, match="must all be 10 x 10"):
        follow(network, low_rank_target(10, 2), 2)
