"""AdaBN; oracles: numpy's moments of what every layer sees, and torch's own training mode."""

import copy

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from rhm.data.chips import UnlabelledChip
from rhm.errors import ConfigError
from rhm.training.unlabelled.batch_statistics import (
    BatchNorm,
    ChannelMoments,
    measure_statistics,
    set_statistics,
)
from tests.training.unlabelled.batches import batch_of, small_model


def targets(count: int, chips: int = 4) -> list[UnlabelledChip]:
    return [batch_of(seed, chips)["target"] for seed in range(count)]


def layers(model: nn.Module) -> dict[str, nn.Module]:
    return {name: each for name, each in model.named_modules() if isinstance(each, BatchNorm)}


def inputs_in_training(
    model: nn.Module, batches: list[UnlabelledChip]
) -> dict[str, list[NDArray[np.float64]]]:
    """What every batch normalisation sees while torch itself normalises batch by batch."""
    twin = copy.deepcopy(model).train()
    for module in twin.modules():
        if isinstance(module, nn.Dropout | nn.Dropout2d):
            module.eval()
    seen: dict[str, list[NDArray[np.float64]]] = {name: [] for name in layers(twin)}

    def keep(name: str) -> object:
        return lambda module, given: seen[name].append(given[0].detach().double().numpy())

    for name, layer in layers(twin).items():
        layer.register_forward_pre_hook(keep(name))  # type: ignore[arg-type]
    with torch.no_grad():
        for batch in batches:
            twin(batch["image"].contiguous(memory_format=torch.channels_last))
    return seen


def test_the_statistics_are_those_of_one_pass_over_all_chips() -> None:
    model, batches = small_model(), targets(3)
    moments = measure_statistics(model, batches)
    for name, seen in inputs_in_training(model, batches).items():
        cells = np.concatenate(
            [each.transpose(0, 2, 3, 1).reshape(-1, each.shape[1]) for each in seen]
        )
        assert moments[name].count == len(cells)
        np.testing.assert_allclose(moments[name].mean, cells.mean(axis=0), rtol=1e-3, atol=1e-4)
        spread = moments[name].variance(unbiased=True)
        np.testing.assert_allclose(spread, cells.var(axis=0, ddof=1), rtol=1e-3, atol=1e-5)


def test_the_first_layer_counts_every_valid_cell_exactly_once() -> None:
    model, batches = small_model(), targets(2)
    for batch in batches:
        batch["valid"][:, :, :, 40:] = False
    name, layer = next(iter(layers(model).items()))
    moments = measure_statistics(model, batches)[name]
    seen: list[Tensor] = []
    handle = layer.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    with torch.no_grad():
        model.eval()(torch.cat([batch["image"] for batch in batches]))
    handle.remove()
    # Strided by two: of 32 columns, 20 see columns below 40 only.
    cells = seen[0][..., :20].movedim(1, -1).reshape(-1, seen[0].shape[1]).double().numpy()
    assert moments.count == len(cells)
    np.testing.assert_allclose(moments.mean, cells.mean(axis=0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(moments.variance(unbiased=False), cells.var(axis=0), rtol=1e-5)


def test_parts_are_measured_apart_and_merged() -> None:
    model, batches = small_model(), targets(4)
    whole = measure_statistics(model, batches)
    halves = measure_statistics(model, batches[:1]), measure_statistics(model, batches[1:])
    for name, moments in whole.items():
        merged = halves[0][name].merge(halves[1][name])
        assert merged.count == moments.count
        torch.testing.assert_close(merged.mean, moments.mean, rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(merged.squares, moments.squares, rtol=1e-10, atol=1e-12)


def test_measuring_changes_nothing_and_setting_changes_the_statistics_alone() -> None:
    model = small_model()
    before = {name: each.clone() for name, each in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    moments = measure_statistics(model, targets(2))
    assert all(torch.equal(before[name], each) for name, each in model.state_dict().items())
    assert modes == [module.training for module in model.modules()]
    set_statistics(model, moments)
    changed = {
        name for name, each in model.state_dict().items() if not torch.equal(before[name], each)
    }
    assert changed
    assert all(name.endswith(("running_mean", "running_var")) for name in changed)


def test_one_batch_is_then_normalised_as_in_training() -> None:
    model, (batch,) = small_model(), targets(1, chips=16)
    moments = measure_statistics(model, [batch])
    set_statistics(model, moments)
    for name, layer in layers(model).items():
        # torch divides by the number of cells in training, and by one less in what it keeps.
        assert isinstance(layer.running_var, Tensor)
        layer.running_var *= (moments[name].count - 1) / moments[name].count
    with torch.no_grad():
        expected = copy.deepcopy(model).train()(batch["image"])
        found = model.eval()(batch["image"])
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)


def test_cells_without_data_change_nothing() -> None:
    model, batches = small_model(), targets(1)
    empty = UnlabelledChip(
        image=torch.full((4, 3, 64, 64), 1e4), valid=torch.zeros(4, 1, 64, 64, dtype=torch.bool)
    )
    alone, both = measure_statistics(model, batches), measure_statistics(model, [*batches, empty])
    assert all(torch.equal(alone[name].mean, both[name].mean) for name in alone)
    nothing = measure_statistics(model, [empty])
    before = {name: each.clone() for name, each in model.state_dict().items()}
    set_statistics(model, nothing)
    assert all(torch.equal(before[name], each) for name, each in model.state_dict().items())


def test_moments_are_those_of_numpy_for_any_parts() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(1e4, 0.1, (5, 3, 6, 7))
    parts = [
        ChannelMoments.of(torch.from_numpy(each[None]), torch.ones(1, 6, 7, dtype=torch.bool))
        for each in values
    ]
    merged = parts[0]
    for part in parts[1:]:
        merged = merged.merge(part)
    flat = values.transpose(0, 2, 3, 1).reshape(-1, 3)
    np.testing.assert_allclose(merged.mean, flat.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(merged.variance(unbiased=True), flat.var(axis=0, ddof=1), rtol=1e-6)


def test_a_network_without_batch_normalisation_is_refused() -> None:
    with pytest.raises(ConfigError, match="no batch normalisation"):
        measure_statistics(nn.Conv2d(3, 1, 3), targets(1))


def test_a_batch_without_data_is_measured_like_any_other_place_in_the_order() -> None:
    """Law: parts can be measured apart, also where a batch has no cell that is counted."""
    model = small_model()
    one, empty, other = targets(3)
    empty["valid"][:, :, ::2] = False
    orders = [measure_statistics(model, [one, empty, other]), measure_statistics(model, [one])]
    apart = [measure_statistics(model, [each]) for each in (empty, other)]
    for name in layers(model):
        merged = orders[1][name].merge(apart[0][name]).merge(apart[1][name])
        assert merged.count == orders[0][name].count
        torch.testing.assert_close(merged.mean, orders[0][name].mean)
        torch.testing.assert_close(merged.squares, orders[0][name].squares)
