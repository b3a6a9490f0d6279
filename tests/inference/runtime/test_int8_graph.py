"""Graphs in 8-bit integers. Oracle: the same network in float32."""

import logging
import pickle

import onnx
import pytest
import torch
from torch import Tensor

from rhm.errors import ConfigError, ModelFileError
from rhm.inference import network_for
from rhm.inference.runtime.backends import float_graph
from rhm.inference.runtime.identity import identity_of
from rhm.inference.runtime.int8_graph import quantized, ranges_of
from rhm.inference.runtime.quantization import Quantization
from rhm.models.build import SegmentationModel
from tests.inference.networks import GRAPH_RUNTIMES, built, needs_onnx

pytestmark = needs_onnx


def images(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def measured(model: SegmentationModel, **changes: object) -> Quantization:
    ranges = ranges_of(float_graph(model), (images(1, 3, 64, 64, seed=seed) for seed in range(3)))
    values: dict[str, object] = {"weights": "w", "ranges": ranges, "tiles": 3} | changes
    return Quantization(**values, measure="expected", before=0.9, after=0.9, agreement=1.0)  # type: ignore[arg-type]


def test_ranges_hold_what_occurs() -> None:
    """Oracle: PyTorch's logits of the same images, which the last range is of."""
    model = built()
    ranges = measured(model).ranges
    with torch.inference_mode():
        logits = torch.cat([model(images(1, 3, 64, 64, seed=seed)) for seed in range(3)])
    low, high = ranges["logits"]
    assert low == pytest.approx(float(logits.min()), abs=1e-3)
    assert high == pytest.approx(float(logits.max()), abs=1e-3)
    assert all(low <= high for low, high in ranges.values())


def test_weights_are_seven_bits_with_a_scale_per_channel() -> None:
    model = built()
    graph = onnx.load_from_string(quantized(float_graph(model), measured(model).ranges))
    kernels = [
        onnx.numpy_helper.to_array(each)
        for each in graph.graph.initializer
        if each.data_type == onnx.TensorProto.INT8 and len(each.dims) == 4
    ]
    assert len(kernels) > 5
    assert all(abs(kernel.astype(int)).max() <= 64 for kernel in kernels)
    # Most channels use their whole range; with one scale for all, only the largest would.
    largest = torch.cat([torch.tensor(abs(each.astype(int)).max((1, 2, 3))) for each in kernels])
    assert (largest >= 63).float().mean() > 0.5


# The second encoder has no stage at half of the resolution, for which the decoder gets no channels.
# The third pads by what it computes from the size of the image, which must stay exact.
@pytest.mark.parametrize("runtime", GRAPH_RUNTIMES)
@pytest.mark.parametrize(
    "kind",
    [("unet", "test_resnet"), ("unet", "test_convnext"), ("fpn", "tf_efficientnet_lite0")],
)
def test_probabilities_are_near_those_in_float(
    kind: tuple[str, str], runtime: str, request: pytest.FixtureRequest
) -> None:
    if kind[0] != "unet":
        request.getfixturevalue("thorough")
    model = built(*kind)
    for name, values in model.named_parameters():
        if name.endswith("bias"):
            values.data.normal_(std=0.1)  # as training leaves them, and not all the same
    network = network_for(
        model, device="cpu", runtime=runtime, precision="int8", quantization=measured(model)
    )
    assert network.runtime == f"{runtime}-int8"
    for shape in ((1, 3, 64, 64), (2, 3, 96, 128)):
        found = network(images(*shape)).sigmoid()
        with torch.inference_mode():
            expected = model(images(*shape)).sigmoid()
        assert found.shape == expected.shape
        assert 0.0 < float((found - expected).abs().mean()) < 0.03
    again = pickle.loads(pickle.dumps(network))  # noqa: S301 - our own
    assert torch.equal(again(images(1, 3, 64, 64)), network(images(1, 3, 64, 64)))


def test_what_quantised_a_model_is_part_of_its_identity() -> None:
    model, float_model = built(), network_for(built(), device="cpu", runtime="onnx")
    first = measured(model)
    other = measured(model, ranges=first.ranges | {"logits": (-9.0, 9.0)})
    networks = [
        network_for(model, device="cpu", runtime="onnx", precision="int8", quantization=each)
        for each in (first, first, other)
    ]
    same, again, differs = map(identity_of, networks)
    assert same == again
    assert len({same, differs, identity_of(float_model)}) == 3


def test_nothing_is_said_and_logging_is_left_alone(capfd: pytest.CaptureFixture[str]) -> None:
    """Untrained biases are equal, share one tensor, and make ONNX Runtime warn of each."""
    root = logging.getLogger()
    before = [*root.handlers], [*root.filters]
    model = built("fpn", "mobilenetv3_small_050")
    ranges = ranges_of(float_graph(model), [images(1, 3, 64, 64)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(root, "handlers", [])
        quantized(float_graph(model), ranges)
        assert root.handlers == []
    assert ([*root.handlers], [*root.filters]) == before
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("ranges", [{}, {"logits": (2.0, 1.0)}])
def test_ranges_that_do_not_fit_are_one_line(ranges: dict[str, tuple[float, float]]) -> None:
    with pytest.raises(ModelFileError) as caught:
        quantized(float_graph(built()), ranges)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"precision": "int8"}, "needs a quantisation"),
        ({"precision": "int4"}, "unknown precision 'int4': choose float, int8"),
        ({"precision": "int8", "device": "cuda"}, "int8 runs on cpu"),
    ],
)
def test_what_cannot_be_in_int8_is_refused(options: dict[str, str], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        network_for(built(), **options)  # type: ignore[arg-type]


def test_pytorch_does_not_compute_in_int8() -> None:
    model = built()
    with pytest.raises(ConfigError, match="torch does not compute in int8: choose onnx or openv"):
        network_for(
            model, device="cpu", runtime="torch", precision="int8", quantization=measured(model)
        )
