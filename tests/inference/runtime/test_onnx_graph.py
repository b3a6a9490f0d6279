"""Graphs of small networks: they give what the network gives, or say in a line why they cannot."""

import re
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from rhm.errors import ModelFileError
from rhm.inference.runtime.onnx_graph import (
    TOLERANCE,
    _pooled,
    _resampled,
    check_graph,
    graph_of,
    one_thread,
    run,
    session_of,
)
from tests.inference.networks import needs_onnx

BATCH = {0: "batch"}
ALL = {0: "batch", 2: "height", 3: "width"}


class Of(nn.Module):
    """A network of one function."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, images: Tensor) -> Tensor:
        return self.function(images)


def drawn(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def convolution() -> nn.Module:
    torch.manual_seed(0)
    return nn.Conv2d(3, 1, 3, padding=1).eval()


def pooled_back(images: Tensor) -> Tensor:
    """A pyramid whose pools do not divide the image evenly."""
    small = functional.adaptive_avg_pool2d(images, (3, 6))
    other = functional.interpolate(images, size=(5, 2), mode="area")
    size = images.shape[2:]
    grown = (functional.interpolate(each, size=size, mode="bilinear") for each in (small, other))
    return images.mean(1, keepdim=True) + sum(each.sum(1, keepdim=True) for each in grown)


@needs_onnx
def test_a_graph_gives_what_the_network_gives_at_any_size() -> None:
    network = convolution()
    session = session_of(graph_of(network, drawn(1, 3, 32, 32), dynamic=ALL))
    for shape in ((1, 3, 32, 32), (4, 3, 48, 96)):
        images = drawn(*shape)
        with torch.inference_mode():
            torch.testing.assert_close(run(session, images), network(images))


@needs_onnx
def test_names_and_lengths_are_those_asked_for() -> None:
    graph = graph_of(
        convolution(), drawn(2, 3, 32, 64), dynamic=BATCH, names=("picture", "shares"), opset=13
    )
    session = session_of(graph)
    (given_,), (result,) = session.get_inputs(), session.get_outputs()
    assert (given_.name, given_.shape) == ("picture", ["batch", 3, 32, 64])
    assert (result.name, result.shape) == ("shares", ["batch", 1, 32, 64])


@needs_onnx
def test_uneven_pools_which_onnx_does_not_know_are_said_otherwise() -> None:
    network = Of(pooled_back).eval()
    session = session_of(graph_of(network, drawn(1, 3, 32, 32), dynamic=BATCH))
    images = drawn(3, 3, 32, 32)
    torch.testing.assert_close(run(session, images), network(images), rtol=0, atol=1e-5)


@given(
    st.tuples(st.integers(1, 40), st.integers(1, 40)),
    st.tuples(st.none() | st.integers(1, 12), st.none() | st.integers(1, 12)) | st.integers(1, 12),
)
@settings(max_examples=60)
def test_a_pool_of_running_sums_is_torchs(
    size: tuple[int, int], wanted: int | tuple[int | None, int | None]
) -> None:
    """Also where the pool is finer than the image, and its cells overlap."""
    images = drawn(2, 3, *size)
    expected = functional.adaptive_avg_pool2d(images, wanted)
    torch.testing.assert_close(_pooled(images, wanted), expected, rtol=0, atol=1e-5)


# For results that are one pixel wide, torch 2.14 repeats the first row.
@given(*[st.tuples(st.integers(1, 40), st.integers(least, 40)) for least in (1, 2)])
@settings(max_examples=60)
def test_a_resampling_by_matrices_is_torchs(size: tuple[int, int], wanted: tuple[int, int]) -> None:
    images = drawn(2, 3, *size)
    expected = functional.interpolate(images, wanted, mode="bicubic", antialias=True)
    torch.testing.assert_close(_resampled(images, wanted), expected, rtol=0, atol=1e-4)


@needs_onnx
def test_what_onnx_has_no_word_for_is_told_in_one_line(capfd: pytest.CaptureFixture[str]) -> None:
    network = Of(lambda images: torch.special.bessel_j0(images[:, :1])).eval()
    with pytest.raises(ModelFileError) as caught:
        session_of(graph_of(network, drawn(1, 3, 32, 32), dynamic=BATCH))
    told = str(caught.value)
    assert re.match(r"(the model cannot be expressed in ONNX|ONNX Runtime cannot run)", told)
    assert "\n" not in told
    assert len(told) < 240
    # Neither the exporter nor ONNX Runtime prints anything of its own.
    assert capfd.readouterr() == ("", "")


@needs_onnx
def test_a_network_that_fails_is_told_in_one_line() -> None:
    def failing(images: Tensor) -> Tensor:
        raise ValueError("first\nsecond " + "and more " * 99)

    with pytest.raises(ModelFileError, match="expressed in ONNX: first second and more") as caught:
        graph_of(Of(failing).eval(), drawn(1, 3, 32, 32), dynamic=BATCH)
    assert len(str(caught.value)) < 240


@needs_onnx
@pytest.mark.parametrize("graph", [b"", b"not a graph", b"\x08\x08"])
def test_what_is_no_graph_cannot_be_run(graph: bytes, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ModelFileError, match="ONNX Runtime cannot run the model: ") as caught:
        session_of(graph)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


@needs_onnx
def test_images_of_another_shape_cannot_be_run() -> None:
    session = session_of(graph_of(convolution(), drawn(1, 3, 32, 32), dynamic=BATCH))
    for shape in ((1, 4, 32, 32), (1, 3, 64, 32)):
        with pytest.raises(ModelFileError, match="ONNX Runtime cannot run the model: ") as caught:
            run(session, drawn(*shape))
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("logits", "change", "told"),
    [
        # Probabilities are compared as they are.
        (False, lambda p: p + 0.9 * TOLERANCE, None),
        (False, lambda p: p + 1.1 * TOLERANCE, "differ by 0.00011"),
        # Logits may differ by a share of the largest, which is 50 here, if probabilities do not.
        (True, lambda x: x + 0.04 * (x.abs() == 50), None),
        (True, lambda x: x + 0.06 * (x.abs() == 50), "differ by 0.06"),
        (True, lambda x: x + 0.001 * (x.abs() < 1), "differ by 0.0002"),
        (False, lambda p: p * float("nan"), "differ by nan"),
        (True, lambda x: x[..., :3], "the size of tensor"),
    ],
    ids=["close", "far", "large", "too large", "in the middle", "no number", "other shape"],
)
def test_a_graph_is_held_against_its_network(
    logits: bool, change: Callable[[Tensor], Tensor], told: str | None
) -> None:
    result = torch.tensor([-50.0, -0.5, 0.0, 0.5, 50.0]) if logits else torch.linspace(0, 1, 5)
    network = Of(lambda images: result.expand(len(images), 1, 1, 5))

    def execute(images: Tensor) -> Tensor:
        return change(network(images))

    images = torch.zeros(2, 3, 1, 5)
    if told is None:
        check_graph(execute, network, images, logits=logits)
        return
    with pytest.raises(ModelFileError, match=f"(?i)cannot be expressed in ONNX: .*{told}"):
        check_graph(execute, network, images, logits=logits)


def test_one_thread_is_for_as_long_as_it_is_asked_for() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        with one_thread():
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 3
        with pytest.raises(KeyError), one_thread():
            raise KeyError
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
