"""Files of tensors; law: nothing of a file is read, or believed, before its header is checked."""

import json
import struct
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from rhm.tensor_files import LONGEST_NAME, TensorLayout, open_tensors

TENSORS = {"a": torch.arange(6.0).reshape(2, 3), "n": torch.tensor(3)}
LAYOUTS = {name: TensorLayout.of(tensor) for name, tensor in TENSORS.items()}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    save_file(TENSORS, tmp_path / "a.safetensors", metadata={"told": "text"})
    return tmp_path / "a.safetensors"


def written(path: Path, header: dict[str, object], data: bytes = b"") -> Path:
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


def test_a_file_is_read_as_it_was_written(path: Path) -> None:
    with open_tensors(path) as archive:
        assert archive.metadata == {"told": "text"}
        assert archive.layouts == LAYOUTS
        archive.check(LAYOUTS)
        for name, tensor in TENSORS.items():
            torch.testing.assert_close(archive.read(name), tensor, rtol=0, atol=0)
        with pytest.raises(KeyError, match="no tensor b"):
            archive.read("b")


@pytest.mark.parametrize(
    ("wanted", "told"),
    [
        ({"b": TensorLayout(torch.float32, (1,))}, "1 of 3 are missing, such as b"),
        ({"a": None}, "1 belong to nothing, such as a"),
        (
            {"a": TensorLayout(torch.float32, (3, 2))},
            r"a has a different shape: float32 of shape \(2, 3\), not",
        ),
        ({"n": TensorLayout(torch.float32, ())}, "n has a different type: int64"),
    ],
)
def test_what_differs_from_the_expected_is_named(
    path: Path, wanted: dict[str, TensorLayout | None], told: str
) -> None:
    expected = {name: layout for name, layout in (LAYOUTS | wanted).items() if layout is not None}
    with open_tensors(path) as archive, pytest.raises(ValueError, match=told):
        archive.check(expected)


def test_floating_point_types_are_converted_only_where_that_is_allowed(path: Path) -> None:
    half = TensorLayout(torch.float16, (2, 3))
    with open_tensors(path) as archive:
        archive.check(LAYOUTS | {"a": half})
        with pytest.raises(ValueError, match="a has a different type"):
            archive.check_one("a", half)


def test_files_that_declare_what_they_do_not_hold_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "b.safetensors"

    def refused(header: dict[str, object], told: str) -> None:
        with pytest.raises(ValueError, match=told), open_tensors(written(path, header)):
            pytest.fail("the file was opened")

    huge = {"dtype": "F32", "shape": [1 << 20, 1 << 20], "data_offsets": [0, 1 << 42]}
    refused({"a": huge}, ".")
    refused({"a": {"dtype": "F8_E5M2", "shape": [0], "data_offsets": [0, 0]}}, "type F8_E5M2")
    empty = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
    refused({f"t{number}": empty for number in range((1 << 16) + 1)}, "65537 tensors")
    path.write_bytes(b"\xff" * 100)
    with pytest.raises(ValueError, match="header") as error, open_tensors(path):
        pytest.fail("the file was opened")
    assert str(error.value).isprintable()


@pytest.mark.parametrize("value", [torch.nan, -torch.inf])
def test_values_that_are_not_finite_are_refused(tmp_path: Path, value: float) -> None:
    save_file({"a": torch.tensor([0.0, value])}, tmp_path / "a.safetensors")
    with (
        open_tensors(tmp_path / "a.safetensors") as archive,
        pytest.raises(ValueError, match="a is not finite"),
    ):
        archive.read("a")


def test_names_that_no_tensor_has_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_file({"a." * (LONGEST_NAME // 2): torch.zeros(1)}, path)
    with open_tensors(path) as archive:
        assert len(archive.layouts) == 1
    save_file({"a." * (LONGEST_NAME // 2) + "b": torch.zeros(1)}, path)
    told = "the name of a tensor has 1001 characters"
    with pytest.raises(ValueError, match=told), open_tensors(path):
        pass
