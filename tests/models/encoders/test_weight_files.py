"""Files of weights in all shapes, and of unknown origin; law: a file takes the memory it has."""

import argparse
import json
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from rhm.errors import ConfigError
from rhm.models.build import SegmentationModel, load_encoder_weights
from rhm.models.encoders.encoder_weights import input_statistics
from rhm.models.encoders.weight_files import read_states, weight_file
from rhm.models.spec import ModelSpec
from tests.models.encoders.checkpoints import whole_network

ENCODER = "test_convnext"
State = dict[str, Tensor]


@pytest.fixture(scope="module")
def state() -> State:
    """The tensors of a network of timm."""
    return dict(whole_network(ENCODER).state_dict())


def under(prefix: str, state: State) -> State:
    return {f"{prefix}{name}": each for name, each in state.items()}


def wrong(state: State) -> State:
    return {name: each + 1 for name, each in state.items()}


SHAPES: dict[str, Callable[[State], Any]] = {
    "plain": lambda state: state,
    "parameters": lambda state: {name: nn.Parameter(each) for name, each in state.items()},
    "data parallel": lambda state: {"state_dict": under("module.", state), "epoch": 3},
    "compiled": lambda state: under("_orig_mod.module.", state),
    "timm": lambda state: {
        "state_dict": wrong(state),
        "state_dict_ema": state,
        "args": argparse.Namespace(lr=0.1),
        "optimizer": {"state": {0: {"exp_avg": torch.zeros(3)}}, "param_groups": [{"lr": 0.1}]},
    },
    "dino": lambda state: {
        "student": under("module.backbone.", wrong(state)),
        "teacher": under("backbone.", state) | {"head.last_layer.weight": torch.zeros(2)},
    },
    "lightning": lambda state: {
        "state_dict": under("model.encoder.", state) | {"model.decoder.x": torch.zeros(5)},
        "hyper_parameters": {"lr": 1e-3},
    },
    "segmentation": lambda state: {
        "model": under("encoder.", state) | {"decode_head.bias": torch.zeros(5)}
    },
    "deep": lambda state: {"checkpoint": {"nets": {"model": under("net.trunk.", state)}}},
    "author": lambda state: {"model": as_authors_named(state)},
    "author in mmseg": lambda state: {
        "state_dict": under("backbone.", as_authors_named(state))
        | {"decode_head.conv_seg.bias": torch.zeros(5)}
    },
}


def as_authors_named(state: State) -> State:
    """Return the tensors of a ConvNeXt by the names in facebookresearch/ConvNeXt."""
    renamed = {}
    for name, each in state.items():
        name = name.replace("stem.", "downsample_layers.0.").replace("head.norm.", "norm.")
        name = name.replace("head.fc.", "head.")
        if ".downsample." in name:
            stage, rest = name.removeprefix("stages.").split(".downsample.")
            name = f"downsample_layers.{stage}.{rest}"
        name = name.replace(".blocks.", ".").replace("conv_dw.", "dwconv.")
        renamed[name.replace("mlp.fc", "pwconv")] = each
    return renamed


def loaded_from(path: Path) -> State:
    model = SegmentationModel(ModelSpec("fpn", ENCODER, 3))
    report = load_encoder_weights(model, str(path))
    assert report is not None
    assert not report.missing
    return dict(model.encoder.get_submodule("model").state_dict())


def is_loaded(found: State, state: State) -> bool:
    names = {name.replace("stages_", "stages.").replace("stem_", "stem."): name for name in found}
    return all(torch.equal(found[names[name]], state[name]) for name in names)


@pytest.mark.parametrize("shape", SHAPES)
def test_files_of_all_shapes_are_read(shape: str, state: State, tmp_path: Path) -> None:
    torch.save(SHAPES[shape](state), tmp_path / "weights.pth")
    assert is_loaded(loaded_from(tmp_path / "weights.pth"), state)


def test_files_of_all_formats_are_read(state: State, tmp_path: Path) -> None:
    save_file(under("encoder.", state), tmp_path / "a.safetensors")
    torch.save(state, tmp_path / "a.bin")
    torch.save(state, tmp_path / "a.pt", _use_new_zipfile_serialization=False)
    save_file({name: each.half() for name, each in state.items()}, tmp_path / "half.safetensors")
    for name in ("a.safetensors", "a.bin", "a.pt"):
        assert is_loaded(loaded_from(tmp_path / name), state)
    halves = {name: each.half().float() for name, each in state.items()}
    assert is_loaded(loaded_from(tmp_path / "half.safetensors"), halves)


@pytest.fixture
def cache(state: State, tmp_path: Path) -> Path:
    """A repository in a Hugging Face cache, whose snapshots link to its blobs."""
    repository = tmp_path / f"models--timm--{ENCODER}.r160_in1k"
    snapshot = repository / "snapshots" / "0123abcd"
    for folder in (snapshot, repository / "refs", repository / "blobs"):
        folder.mkdir(parents=True)
    (repository / "refs" / "main").write_text("0123abcd")
    save_file(state, repository / "blobs" / "77")
    (snapshot / "model.safetensors").symlink_to(Path("../../blobs/77"))
    config = {
        "architecture": ENCODER,
        "pretrained_cfg": {"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6]},
    }
    (snapshot / "config.json").write_text(json.dumps(config))
    return repository


def test_a_folder_of_the_hub_gives_weights_and_statistics(cache: Path, state: State) -> None:
    snapshot = cache / "snapshots" / "0123abcd"
    for path in (cache, snapshot, snapshot / "model.safetensors"):
        assert weight_file(path) == snapshot / "model.safetensors"
        assert is_loaded(loaded_from(path), state)
        assert input_statistics(ENCODER, 3, str(path)) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    assert input_statistics(ENCODER, 4, str(cache)) == ((0.5,) * 4, (0.5,) * 4)


def test_folders_that_are_not_clear_are_refused(cache: Path, tmp_path: Path) -> None:
    (cache / "refs" / "main").write_text("../../../elsewhere")
    (cache / "snapshots" / "ffff").mkdir()
    with pytest.raises(ConfigError, match="contains 2 snapshots: name one"):
        weight_file(cache)
    with pytest.raises(ConfigError, match=r"neither model.safetensors nor pytorch_model.bin"):
        weight_file(cache / "snapshots" / "ffff")
    for name in "ab":
        save_file({"a": torch.zeros(1)}, tmp_path / f"{name}.safetensors")
    with pytest.raises(ConfigError, match="contains several files: name the file"):
        weight_file(tmp_path)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"architecture": "resnet18"}, "has the weights of resnet18: set model.encoder"),
        ({"architecture": ["x"]}, "has the weights of"),
        ({"pretrained_cfg": {"mean": [0.1], "std": [0.0]}}, "are not those of images"),
        ({"pretrained_cfg": {"mean": [1e9], "std": [0.1]}}, "are not those of images"),
        ({"pretrained_cfg": {"mean": [0.1], "std": [1e-9]}}, "are not those of images"),
        ({"pretrained_cfg": {"mean": "abc", "std": [0.0]}}, "are not numbers"),
        ({"pretrained_cfg": {"mean": [True], "std": [1e400]}}, "are not numbers"),
    ],
)
def test_a_description_that_cannot_be_is_refused(
    change: dict[str, Any], told: str, cache: Path
) -> None:
    path = cache / "snapshots" / "0123abcd" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    read = loaded_from if "architecture" in change else _statistics
    with pytest.raises(ConfigError, match=told):
        read(cache)


def _statistics(path: Path) -> object:
    return input_statistics(ENCODER, 3, str(path))


class Runs:
    """What runs code when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return print, ("code was run",)


class Grows:
    """What takes more memory than its file."""

    def __reduce__(self) -> tuple[Any, ...]:
        return bytearray, (1 << 45,)


def rewritten(path: Path, change: Callable[[str, bytes], bytes], how: int) -> None:
    """Write the members of an archive once more."""
    with zipfile.ZipFile(path) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    with zipfile.ZipFile(path, "w", how) as archive:
        for name, content in members.items():
            archive.writestr(name, change(name, content))


def hostile(path: Path, kind: str) -> None:
    tensors = {"a": torch.zeros(100)}
    if kind == "code":
        torch.save({"a": Runs()}, path)
    elif kind == "memory":
        torch.save({"a": Grows()}, path)
    elif kind == "memory in the old format":
        torch.save({"a": Grows()}, path, _use_new_zipfile_serialization=False)
    elif kind == "compressed":
        torch.save({"a": torch.zeros(1 << 20)}, path)
        rewritten(path, lambda _, content: content, zipfile.ZIP_DEFLATED)
    elif kind == "lies":
        torch.save(tensors, path)
        number, lie = (pickle.BININT1 + b"d", pickle.BININT + struct.pack("<i", 1 << 30))
        rewritten(path, lambda _, content: content.replace(number, lie), zipfile.ZIP_STORED)
    elif kind == "expanded":
        torch.save({"a": torch.zeros(1).expand(1 << 20, 1 << 20)}, path)
    elif kind == "deep":
        nested: Any = tensors
        for _ in range(100):
            nested = {"model": nested}
        torch.save(nested, path)
    elif kind == "text":
        path.write_text("version https://git-lfs.github.com/spec/v1\n")
    else:
        torch.save([tensors], path)


@pytest.mark.parametrize(
    "kind",
    [
        *("code", "memory", "memory in the old format", "compressed", "lies", "expanded", "deep"),
        *("text", "list"),
    ],
)
def test_files_of_unknown_origin_are_checked(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hostile(tmp_path / "a.pth", kind)
    with pytest.raises(ConfigError, match=r"a\.pth (is not a plain|contains no)") as refused:
        read_states(tmp_path / "a.pth")
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 600
    assert capsys.readouterr().out == ""


def test_a_damaged_file_of_tensors_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.safetensors").write_bytes(b"\xff" * 100)
    with pytest.raises(ConfigError, match="cannot be read"):
        read_states(tmp_path / "a.safetensors")


def test_a_dict_that_stands_in_many_places_is_read_once(tmp_path: Path) -> None:
    tree: dict[str, Any] = {"weight": torch.zeros(2)}
    for _ in range(4):
        tree = dict.fromkeys(map(str, range(40)), tree)
    torch.save(tree, tmp_path / "deep.pth")
    (found,) = read_states(tmp_path / "deep.pth")
    assert list(found) == ["weight"]


def test_names_that_no_tensor_has_are_passed_over(tmp_path: Path) -> None:
    """Their prefixes would take time in proportion to the square of their length."""
    torch.save({"a." * 1000: torch.zeros(1), "b": torch.zeros(1)}, tmp_path / "a.pth")
    (found,) = read_states(tmp_path / "a.pth")
    assert list(found) == ["b"]


def test_tensors_may_share_memory_but_not_stand_for_more_of_it(tmp_path: Path) -> None:
    path, shared = tmp_path / "a.pth", torch.arange(1000.0)
    torch.save({"a": shared, "b": shared, "c": shared[:10], "d": shared.reshape(10, 100)}, path)
    (found,) = read_states(path)
    assert torch.equal(found["d"].flatten(), found["a"])
    torch.save({str(number): shared for number in range(100)}, path)
    with pytest.raises(ConfigError, match=r"a\.pth has tensors that need more than 4 times"):
        read_states(path)
