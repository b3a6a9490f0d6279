"""Deep linear networks: orthogonal starts, and compression that keeps the path."""

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rhm.adapters.descent import DenseResidual, descend
from rhm.adapters.linear_network import DeepLinearNetwork, compress
from rhm.adapters.weights import first_gradient
from rhm.errors import ConfigError
from tests.adapters.problems import low_rank, product


@given(
    widths=st.lists(st.integers(1, 9), min_size=2, max_size=5),
    init_scale=st.floats(1e-4, 2.0),
    seed=st.integers(0, 99),
)
def test_every_singular_value_of_the_start_is_its_scale(
    widths: list[int], init_scale: float, seed: int
) -> None:
    network = DeepLinearNetwork.orthogonal(
        widths, init_scale=init_scale, seed=seed, dtype=torch.float64
    )
    assert network.depth == len(widths) - 1
    for weight, (inputs, outputs) in zip(network.weights, pairwise(widths), strict=True):
        assert weight.shape == (outputs, inputs)
        values = torch.linalg.svdvals(weight.detach())
        torch.testing.assert_close(values, torch.full_like(values, init_scale))


def test_the_start_is_its_seeds_and_leaves_the_global_generator_alone() -> None:
    state = torch.get_rng_state()
    first = DeepLinearNetwork.orthogonal([6, 6, 6], seed=3)
    again = DeepLinearNetwork.orthogonal([6, 6, 6], generator=torch.Generator().manual_seed(3))
    other = DeepLinearNetwork.orthogonal([6, 6, 6], seed=4)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first.product(), again.product())
    assert not torch.allclose(first.product(), other.product())


def test_a_network_is_its_product() -> None:
    generator = torch.Generator().manual_seed(0)
    network = DeepLinearNetwork(
        [torch.randn(4, 4, generator=generator), torch.randn(4, 4, generator=generator)],
        left=torch.randn(7, 4, generator=generator),
        right=torch.randn(9, 4, generator=generator),
    )
    inputs = torch.randn(5, 9, generator=generator)
    torch.testing.assert_close(network(inputs), inputs @ network.product().T)
    assert network.product().shape == (7, 9)
    copy = DeepLinearNetwork(
        [torch.zeros(4, 4)] * 2, left=torch.zeros(7, 4), right=torch.ones(9, 4)
    )
    copy.load_state_dict(network.state_dict())
    assert torch.equal(copy.product(), network.product())


def test_an_optimizer_takes_discrepant_rates() -> None:
    network = compress(
        DeepLinearNetwork.orthogonal([8] * 4, init_scale=0.5), low_rank(8, 8, 2).float(), 2
    )
    before = [factor.detach().clone() for factor in network.factors()]
    optimizer = torch.optim.SGD(network.parameter_groups(0.1, 0.01), lr=1.0)
    loss = network.product().square().sum()
    gradients = torch.autograd.grad(loss, list(network.parameters()), retain_graph=True)
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    named = dict(zip([name for name, _ in network.named_parameters()], gradients, strict=True))
    assert network.left is not None
    torch.testing.assert_close(network.left.detach(), before[-1] - 0.001 * named["left"])
    torch.testing.assert_close(network.weights[0].detach(), before[1] - 0.1 * named["weights.0"])
    assert len(network.parameter_groups(0.1, 0.0)) == 1


def distance_on_the_way(widths: list[int], init_scale: float, *, active_only: bool) -> float:
    """Train both networks; return the largest distance of their maps, relative to the target."""
    target = low_rank(widths[-1], widths[0], 3)
    network = DeepLinearNetwork.orthogonal(widths, init_scale=init_scale, dtype=torch.float64)
    wide = [weight.detach().clone() for weight in network.weights]
    small = compress(network, first_gradient(wide, -target), 3)
    assert small.depth == network.depth
    assert {weight.shape for weight in small.weights} == {(6, 6)}
    factors = [factor.detach().clone() for factor in small.factors()]
    start = factors[0].T if active_only else torch.eye(widths[0], dtype=torch.float64)
    residual = DenseResidual(target, torch.ones_like(target, dtype=torch.bool))
    steps, worst, left = [0.02] * len(wide), 0.0, math.inf
    for _ in range(300 if init_scale > 0.2 else math.ceil(30.0 / init_scale)):
        descend(wide, residual, steps)
        descend(factors, residual, [0.0, *steps, 0.0])
        distance = torch.linalg.norm(product([start, *wide]) - product([start, *factors]))
        worst = max(worst, float(distance / torch.linalg.norm(target)))
        left = float(torch.linalg.norm(product(factors) - target) / torch.linalg.norm(target))
    assert left < 0.1
    return worst


@pytest.mark.parametrize("depth", [2, 3, 4])
@pytest.mark.parametrize("init_scale", [0.3, 0.5])
def test_on_the_active_subspace_the_compressed_network_is_the_wide_one(
    depth: int, init_scale: float
) -> None:
    assert distance_on_the_way([30] * (depth + 1), init_scale, active_only=True) < 1e-9


@pytest.mark.parametrize("widths", [[30, 30, 30, 30], [30, 30, 30, 20]])
def test_elsewhere_the_wide_network_keeps_what_it_had(widths: list[int]) -> None:
    middle = 0.03**3 * math.sqrt(30 - 6) / float(torch.linalg.norm(low_rank(widths[-1], 30, 3)))
    assert distance_on_the_way(widths, 0.03, active_only=False) < 1.01 * middle


def test_layers_that_shrink_early_cost_terms_of_the_order_of_the_scale() -> None:
    far = distance_on_the_way([30, 20, 20, 20], 0.05, active_only=False)
    near = distance_on_the_way([30, 20, 20, 20], 0.01, active_only=False)
    assert near < 0.5 * far
    assert near < 0.01


@pytest.mark.parametrize(
    ("widths", "rank", "error", "message"),
    [
        ([8, 8, 8], 5, ConfigError, "choose a rank of at most 4"),
        ([8, 4, 8], 3, ConfigError, "the narrowest has 4"),
        ([8, 8, 9], 2, ValueError, "transpose the network"),
    ],
)
def test_what_cannot_be_compressed_is_refused(
    widths: list[int], rank: int, error: type[Exception], message: str
) -> None:
    network = DeepLinearNetwork.orthogonal(widths)
    with pytest.raises(error, match=message):
        compress(network, torch.ones(widths[1], 8), rank)


def test_only_a_network_as_it_was_drawn_is_compressed() -> None:
    network = DeepLinearNetwork.orthogonal([8, 8, 8])
    gradient = low_rank(8, 8, 2).float()
    with pytest.raises(ValueError, match="already compressed"):
        compress(compress(network, gradient, 2), torch.ones(4, 4), 1)
    with pytest.raises(ConfigError, match="not orthogonal up to a scale"):
        compress(DeepLinearNetwork([low_rank(8, 8, 8), low_rank(8, 8, 8)]), gradient.double(), 2)
    with pytest.raises(ConfigError, match="not finite"):
        compress(network, torch.full((8, 8), torch.nan), 2)


def test_factors_must_chain() -> None:
    with pytest.raises(ValueError, match="cannot follow"):
        DeepLinearNetwork([torch.ones(3, 4), torch.ones(4, 4)])
    with pytest.raises(ValueError, match="cannot follow"):
        DeepLinearNetwork([torch.ones(3, 4)], right=torch.ones(9, 3))
    with pytest.raises(ValueError, match="at least one weight"):
        DeepLinearNetwork([])
    with pytest.raises(ValueError, match="describe no layer"):
        DeepLinearNetwork.orthogonal([4])
