"""Batched matching compiled, without data and on a GPU: as on the CPU, in the memory stated."""

import shutil

import numpy as np
import pytest
import torch

from rhm.colour.batched import BatchedHistogramMatching
from rhm.colour.lookup import PixelMap
from tests.colour.batches import (
    TENSORS,
    bank_of,
    batch_of,
    tensor_of,
)


def test_the_tables_move_with_the_module_and_stay_out_of_its_state() -> None:
    module = BatchedHistogramMatching(bank_of(np.uint8))
    images, targets = tensor_of(batch_of(np.uint8), torch.uint8), torch.arange(5)
    before = module.match(images, targets)
    assert not module.state_dict()
    assert not list(module.parameters())
    assert torch.equal(module.half().match(images, targets), before)
    assert {buffer.device.type for buffer in module.to("meta").buffers()} == {"meta"}
    assert len(repr(module)) < 200


@pytest.mark.parametrize(("dtype", "kind"), TENSORS)
@pytest.mark.parametrize("normalized", [False, True])
def test_shapes_follow_from_shapes_alone(dtype: type, kind: torch.dtype, normalized: bool) -> None:
    """On tensors without data, whatever asks for a value raises."""
    normalize = PixelMap.normalize((0,) * 3, (255,) * 3, dtype) if normalized else None
    module = BatchedHistogramMatching(
        bank_of(dtype), blend=(0.2, 1.0), nodata=0, normalize=normalize, levels=2048
    ).to("meta")
    images = torch.empty((4, 3, 20, 24), dtype=kind, device="meta")
    matched = module(images, torch.empty((4, 20, 24), dtype=torch.bool, device="meta"))
    assert matched.shape == images.shape
    assert matched.dtype == (torch.float32 if normalized else kind)


# What torch tells those who compile with this one version of Python; others have no such warning.
slower_guards = pytest.mark.filterwarnings(
    "ignore:Guards may run slower on Python 3.13.0:RuntimeWarning"
)


def compiled_equals_eager(backend: str, dtype: type, kind: torch.dtype) -> None:
    torch.compiler.reset()
    module = BatchedHistogramMatching(bank_of(dtype), p=1.0, nodata=0, levels=2048)
    images, targets = tensor_of(batch_of(dtype), kind), torch.tensor([3, 0, 8, 2, 6])
    images[:, :, :4] = 0
    blends = torch.tensor([0.3, 1.0, 0.0, 0.5, 0.777], dtype=torch.float64)
    match = torch.compile(module.match, fullgraph=True, backend=backend)
    for count in (5, 3):
        arguments = (images[:count], targets[:count])
        expected = module.match(*arguments, blends=blends[:count])
        assert torch.equal(match(*arguments, blends=blends[:count]), expected)
    torch.compile(module, fullgraph=True, backend=backend)(images)


@slower_guards
@pytest.mark.parametrize(("dtype", "kind"), TENSORS)
def test_it_compiles_as_one_graph(dtype: type, kind: torch.dtype) -> None:
    compiled_equals_eager("aot_eager", dtype, kind)


@slower_guards
@pytest.mark.usefixtures("thorough")
@pytest.mark.parametrize(("dtype", "kind"), TENSORS[:2])
def test_generated_code_rounds_alike(dtype: type, kind: torch.dtype) -> None:
    if not (shutil.which("g++") or shutil.which("clang++")):
        pytest.skip("inductor needs a C++ compiler")
    compiled_equals_eager("inductor", dtype, kind)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize(("dtype", "kind"), TENSORS)
@pytest.mark.parametrize("nodata", [None, 0])
def test_cuda_agrees_with_the_cpu_without_waiting(
    dtype: type, kind: torch.dtype, nodata: int | None
) -> None:
    images, targets = tensor_of(batch_of(dtype), kind), torch.tensor([3, 0, 8, 2, 6])
    images[:, :, :4] = 0
    module = BatchedHistogramMatching(bank_of(dtype), nodata=nodata)
    expected = module.match(images, targets)
    module, images, targets = module.cuda(), images.cuda(), targets.cuda()
    valid = torch.ones((5, 23, 31), dtype=torch.bool, device="cuda")
    generator = torch.Generator("cuda").manual_seed(0)
    torch.cuda.set_sync_debug_mode("error")
    try:
        matched = module.match(images, targets)
        drawn_by_seed = module(images, generator=generator)
        module(images, valid)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert torch.equal(matched.cpu(), expected)
    again = module(images, generator=generator.manual_seed(0))
    assert torch.equal(again.cpu(), drawn_by_seed.cpu())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize(("dtype", "kind"), TENSORS)
def test_cuda_memory_stays_as_stated(dtype: type, kind: torch.dtype) -> None:
    module = BatchedHistogramMatching(bank_of(dtype), nodata=0).cuda()
    images = torch.zeros((16, 3, 256, 256), dtype=kind, device="cuda")
    module(images)
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    module(images)
    taken = torch.cuda.max_memory_allocated() - before
    each = 80 * 1024 if dtype is np.uint8 else 5 * 1024 * 1024
    assert taken <= images.numel() * (25 + images.element_size()) + 16 * 3 * each
