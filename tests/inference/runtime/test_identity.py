"""The weights of a network are hashed once, and again after any change."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
from torch import nn

from rhm.inference import predict_raster
from rhm.inference.runtime import identity
from rhm.inference.runtime.backends import OnnxBackend, TorchBackend
from rhm.inference.runtime.identity import code_of, hash_of, identity_of
from rhm.models.architectures import ARCHITECTURES
from tests.data.imagery import noise, write_raster
from tests.inference.networks import built, needs_onnx


class Small(nn.Module):
    """Weights of several types and layouts; the first is larger than what is folded at a time."""

    steps: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        weight = torch.randn(64, 3, 7, 7, generator=generator)
        self.weight = nn.Parameter(weight.to(memory_format=torch.channels_last))
        self.register_buffer("steps", torch.tensor(3))
        self.register_buffer("coarse", torch.randn(5, generator=generator).bfloat16())
        self.register_buffer("nothing", torch.zeros(0))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return nn.functional.conv2d(images, self.weight, padding=3)[:, :1]


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Returns a list that grows by one with every hash that is taken."""
    taken: list[int] = []

    def counted(state: Any) -> str:
        taken.append(1)
        return hash_of(state)

    monkeypatch.setattr(identity, "hash_of", counted)
    return taken


def in_numpy(model: Small) -> None:
    model.weight.detach().numpy()[0, 0, 0, 0] += 1.0


def swapped(model: Small) -> None:
    model.weight.data[:2] = model.weight.data[[1, 0]]


def negated(model: Small) -> None:
    model.weight.data.neg_()


def replaced(model: Small) -> None:
    model.weight = nn.Parameter(model.weight.detach() * 2.0)


def loaded(model: Small) -> None:
    model.load_state_dict(Small().state_dict() | {"coarse": torch.zeros(5).bfloat16()})


def counted_on(model: Small) -> None:
    model.steps += 1


CHANGES: list[Callable[[Small], None]] = [
    in_numpy,
    swapped,
    negated,
    replaced,
    loaded,
    counted_on,
]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_every_change_is_another_identity(
    change: Callable[[Small], None], hashed: list[int]
) -> None:
    """Oracle: the hash of the weights, taken anew."""
    model = Small()
    before = identity_of(model)
    assert identity_of(model) == before == hash_of(model.state_dict())
    assert len(hashed) == 1
    change(model)
    assert before != identity_of(model) == hash_of(model.state_dict())
    assert len(hashed) == 2


def test_the_same_weights_are_the_same_identity_in_any_layout() -> None:
    one, other = Small(), Small()
    other.weight.data = other.weight.data.contiguous()
    assert identity_of(one) == identity_of(other)
    assert one.weight.stride() != other.weight.stride()


def test_a_model_that_another_runtime_executes_is_another_network() -> None:
    model = built()
    plain = identity_of(model)
    single, half = TorchBackend(model, "cpu"), TorchBackend(model, "cpu", mixed=True)
    assert len({plain, identity_of(single), identity_of(half)}) == 3


def test_functions_are_never_known_to_be_the_same() -> None:
    assert identity_of(lambda images: images) is None


def scaled_by(factor: Any) -> type[nn.Module]:
    class Scaled(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return images[:, :1] * float(factor)

    return Scaled


def test_modules_are_told_by_what_they_execute() -> None:
    class Brighter(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return images[:, :1] + 1.0

    first = Brighter

    class Brighter(nn.Module):  # type: ignore[no-redef]
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return images[:, :1] + 2.0

    assert code_of(first()) == code_of(first()) != code_of(Brighter())
    assert code_of(scaled_by(2.0)()) == code_of(scaled_by(2.0)()) != code_of(scaled_by(3.0)())
    assert code_of(nn.ReLU()) != code_of(nn.GELU())


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_architecture_is_identified(architecture: str) -> None:
    """Otherwise no prediction with it could be resumed."""
    model = built(architecture)
    assert code_of(model) is not None
    assert code_of(model) == code_of(built(architecture))
    assert code_of(TorchBackend(model, "cpu")) is not None


@needs_onnx
def test_an_engine_is_identified() -> None:
    model = built()
    assert code_of(OnnxBackend(model)) not in (None, code_of(model))


def test_modules_that_execute_unknown_code_are_not_identified() -> None:
    assert code_of(scaled_by(torch.ones(1))()) is None
    hooked, own = Small(), Small()
    hooked.register_forward_hook(lambda module, images, logits: logits * 2.0)
    own.forward = lambda images: images  # type: ignore[method-assign]
    assert code_of(nn.Sequential(hooked)) is None
    assert code_of(own) is None


def test_many_scenes_take_one_hash(tmp_path: Path, hashed: list[int]) -> None:
    model = Small().eval()
    scenes = [write_raster(tmp_path / f"{name}.tif", noise(40, 50)) for name in "abcd"]

    def tags() -> list[str]:
        found = []
        for scene in scenes:
            result = predict_raster(model, scene, tmp_path / "out", tile=64, overlap=0)
            with rasterio.open(result.mask) as mask:
                found.append(mask.tags()["RHM_FINGERPRINT"])
        return found

    first = tags()
    assert len(hashed) == 1
    assert len(set(first)) == len(scenes)
    assert tags() == first
    assert len(hashed) == 1
    model.weight.data.mul_(2.0)
    assert not set(tags()) & set(first)
    assert len(hashed) == 2


def test_changed_weights_are_not_resumed(tmp_path: Path) -> None:
    model, scene = Small().eval(), write_raster(tmp_path / "x.tif", noise(40, 50))

    def predicted() -> tuple[tuple[str, ...], np.ndarray[Any, Any]]:
        result = predict_raster(model, scene, tmp_path, tile=64, overlap=0, resume=True)
        with rasterio.open(result.probability) as raster:
            return result.notes, raster.read(1)

    _, first = predicted()
    notes, again = predicted()
    assert notes == ("the results already existed",)
    np.testing.assert_array_equal(first, again)
    model.weight.data.neg_()  # which the tensor's own counter of changes does not count
    notes, other = predicted()
    assert notes == ()
    assert not np.array_equal(first, other)
