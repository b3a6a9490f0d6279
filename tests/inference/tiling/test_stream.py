"""Tiled prediction: a constant stays constant, and a pixel-wise model does not see tiles."""

import threading
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from rhm.colour.lookup import PixelMap
from rhm.data.rasters.pixels import Pixels
from rhm.data.rasters.windows import Window
from rhm.errors import ConfigError, ModelFileError, RasterError
from rhm.inference.runtime.tta import Network
from rhm.inference.tiling.stream import (
    Grid,
    PredictedBlock,
    Reader,
    Tiling,
    predict_blocks,
    probabilities,
)

TABLE = PixelMap.normalize((0.0,) * 3, (255.0,) * 3, np.uint8)


def reader(image: NDArray[np.uint8], valid: NDArray[np.bool_]) -> Reader:
    def read(window: Window) -> Pixels:
        assert window.row >= 0
        assert window.col >= 0
        part = image[window.slices]
        assert part.shape[:2] == (window.height, window.width)
        return Pixels(part, valid[window.slices])

    return read


def predict(
    network: Callable[[torch.Tensor], torch.Tensor],
    image: NDArray[np.uint8],
    tiling: Tiling,
    valid: NDArray[np.bool_] | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    height, width = image.shape[:2]
    inside = np.ones((height, width), dtype=bool) if valid is None else valid
    grid = Grid(height, width, tiling)
    return assembled(predict_blocks(network, reader(image, inside), grid, TABLE), (height, width))


def assembled(
    blocks: Iterable[PredictedBlock], shape: tuple[int, int]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Put blocks together, of which each pixel must be in exactly one."""
    probability, valid = np.full(shape, np.nan, np.float32), np.zeros(shape, dtype=bool)
    times = np.zeros(shape, dtype=int)
    for block in blocks:
        probability[block.window.slices] = block.probability
        valid[block.window.slices] = block.valid
        times[block.window.slices] += 1
    assert (times == 1).all()
    return probability, valid


@st.composite
def cuts(draw: st.DrawFn) -> tuple[int, int, Tiling]:
    tile = draw(st.integers(1, 40))
    overlap = draw(st.integers(0, tile - 1))
    # Tiny steps over a large image would only be slow.
    step = tile - overlap
    longest = min(90, tile + 12 * step)
    height, width = (draw(st.integers(1, longest)) for _ in range(2))
    return height, width, Tiling(tile, overlap, draw(st.integers(1, 5)))


@settings(max_examples=80, deadline=None)
@given(cut=cuts(), logit=st.floats(-4, 4))
def test_a_constant_model_gives_a_constant_image(
    cut: tuple[int, int, Tiling], logit: float
) -> None:
    height, width, tiling = cut
    image = np.zeros((height, width, 3), np.uint8)
    probability, _ = predict(lambda x: torch.full_like(x[:, :1], logit), image, tiling)
    assert np.abs(probability - 1 / (1 + np.exp(-logit))).max() < 1e-5


@settings(max_examples=80, deadline=None)
@given(cut=cuts(), seed=st.integers(0, 1000))
def test_a_model_without_spatial_support_does_not_see_tiles(
    cut: tuple[int, int, Tiling], seed: int
) -> None:
    height, width, tiling = cut
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (height, width, 3)).astype(np.uint8)
    weights = torch.tensor([3.0, -2.0, 1.0]).reshape(1, 3, 1, 1)
    probability, _ = predict(lambda x: (x * weights).sum(1, keepdim=True), image, tiling)
    logits = (image / 255.0) @ np.array([3.0, -2.0, 1.0])
    np.testing.assert_allclose(probability, 1 / (1 + np.exp(-logits)), atol=1e-5)


@settings(max_examples=60, deadline=None)
@given(cut=cuts(), seed=st.integers(0, 1000), data=st.data())
def test_any_strips_are_predicted_as_in_the_whole(
    cut: tuple[int, int, Tiling], seed: int, data: st.DataObject
) -> None:
    height, width, tiling = cut
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (height, width, 3)).astype(np.uint8)
    valid = rng.random((height, width)) < 0.7
    grid = Grid(height, width, tiling)
    first = data.draw(st.integers(0, len(grid.strips) - 1))
    last = data.draw(st.integers(first, len(grid.strips) - 1))
    torch.manual_seed(seed)
    network = torch.nn.Conv2d(3, 1, 3, padding=1).eval()
    whole = assembled(predict_blocks(network, reader(image, valid), grid, TABLE), (height, width))
    top, bottom = grid.strip(first)[0], grid.strip(last)[1]
    some = predict_blocks(network, reader(image, valid), grid, TABLE, strips=range(first, last + 1))
    moved = (
        PredictedBlock(block.window._replace(row=block.window.row - top), block.maps, block.valid)
        for block in some
    )
    for part, full in zip(assembled(moved, (bottom - top, width)), whole, strict=True):
        np.testing.assert_array_equal(part, full[top:bottom])


def test_what_cannot_be_read_is_said_and_the_thread_ends() -> None:
    def read(window: Window) -> Pixels:
        if window.row:
            raise RasterError("damaged at row 24")
        return Pixels.everywhere(np.zeros((32, 32, 3), np.uint8))

    blocks = predict_blocks(lambda x: x[:, :1], read, Grid(200, 32, Tiling(32, 8)), TABLE)
    assert next(blocks).window == Window(0, 0, 24, 32)
    with pytest.raises(RasterError, match="row 24"):
        next(blocks)
    assert "rhm-ahead" not in {thread.name for thread in threading.enumerate()}


def test_a_prediction_may_be_left_early() -> None:
    image = np.zeros((400, 64, 3), np.uint8)
    blocks: Iterator[PredictedBlock] = predict_blocks(
        lambda x: x[:, :1],
        reader(image, np.ones((400, 64), dtype=bool)),
        Grid(400, 64, Tiling(32, 8)),
        TABLE,
    )
    next(blocks)
    blocks.close()  # type: ignore[attr-defined]
    assert "rhm-ahead" not in {thread.name for thread in threading.enumerate()}


def test_batches_do_not_change_the_result() -> None:
    rng = np.random.default_rng(1)
    image = rng.integers(0, 256, (100, 120, 3)).astype(np.uint8)
    torch.manual_seed(0)
    network = torch.nn.Conv2d(3, 1, 5, padding=2).eval()
    one, _ = predict(network, image, Tiling(32, 8, 1))
    many, _ = predict(network, image, Tiling(32, 8, 7))
    np.testing.assert_allclose(one, many, atol=1e-6)


def test_small_images_are_mirrored_to_a_full_tile() -> None:
    seen: list[torch.Tensor] = []

    def network(images: torch.Tensor) -> torch.Tensor:
        seen.append(images)
        return images[:, :1]

    image = np.arange(12, dtype=np.uint8).reshape(3, 4, 1).repeat(3, axis=2)
    predict(network, image, Tiling(8, 2, 1))
    expected = np.pad(image[..., 0], ((0, 5), (0, 4)), mode="reflect") / 255.0
    np.testing.assert_allclose(seen[0][0, 0].numpy(), expected, atol=1e-6)


def test_tiles_without_data_do_not_reach_the_network() -> None:
    seen = 0

    def network(images: torch.Tensor) -> torch.Tensor:
        nonlocal seen
        seen += len(images)
        return images[:, :1]

    image = np.zeros((64, 64, 3), np.uint8)
    valid = np.zeros((64, 64), dtype=bool)
    valid[:10, :10] = True
    _, returned = predict(network, image, Tiling(16, 0, 4), valid)
    assert seen == 1
    np.testing.assert_array_equal(returned, valid)


def test_a_model_of_the_wrong_shape_is_named() -> None:
    image = np.zeros((8, 8, 3), np.uint8)
    with pytest.raises(ModelFileError, match=r"shape \(1, 3, 8, 8\)"):
        predict(lambda images: images, image, Tiling(8, 0, 1))


def test_impossible_tilings_are_refused() -> None:
    with pytest.raises(ConfigError, match="overlap"):
        Tiling(tile=8, overlap=8)


@pytest.mark.parametrize(
    ("size", "side"),
    [((1, 1), 64), ((64, 20), 64), ((65, 3), 96), ((96, 96), 96), ((480, 480), 480)],
)
def test_tiles_are_no_larger_than_an_image_asks_for(size: tuple[int, int], side: int) -> None:
    fitted = Tiling(tile=512, overlap=64, batch_size=3).for_image(*size)
    assert fitted == Tiling(tile=side, overlap=0, batch_size=3)


@pytest.mark.parametrize("size", [(481, 10), (512, 512), (20, 9000)])
def test_images_as_large_as_a_tile_are_cut_as_asked(size: tuple[int, int]) -> None:
    tiling = Tiling(tile=512, overlap=64)
    assert tiling.for_image(*size) == tiling


def too_large(images: torch.Tensor) -> torch.Tensor:
    return images[:, :1] + torch.empty(1 << 50)


def too_large_for_the_gpu(images: torch.Tensor) -> torch.Tensor:
    raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\n" * 9)


def too_large_for_the_engine(images: torch.Tensor) -> torch.Tensor:
    raise RuntimeError("bfc_arena.cc: Failed to allocate memory for requested buffer of size 9")


@pytest.mark.parametrize("network", [too_large, too_large_for_the_gpu, too_large_for_the_engine])
def test_exhausted_memory_is_one_line_of_advice(network: Network) -> None:
    with pytest.raises(ConfigError) as error:
        probabilities(network, torch.zeros(4, 3, 64, 96))
    assert str(error.value) == (
        "out of memory for a batch of 4 tiles of 64 x 96 pixels: use a smaller --batch-size or "
        "--tile"
    )


def test_other_errors_of_a_network_stay_what_they_are() -> None:
    def broken(images: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("sizes differ")

    with pytest.raises(RuntimeError, match="sizes differ"):
        probabilities(broken, torch.zeros(1, 3, 64, 64))
