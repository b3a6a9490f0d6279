"""The files of an experiment, of which only its own earlier ones are replaced."""

from pathlib import Path

import pytest

from rhm.cli.experiment_output import FIRST, experiment_files, write_numbers
from rhm.errors import OutputError
from rhm.lab.figures.png import saved_png


def drawn(path: Path) -> None:
    with saved_png(path, width=1, height=1) as figure:
        figure.add_subplot().plot([0, 1])


@pytest.mark.parametrize("name", FIRST)
def test_an_experiment_replaces_what_it_wrote(tmp_path: Path, name: str) -> None:
    figure, numbers = experiment_files(tmp_path, name)
    assert (figure, numbers) == (tmp_path / f"{name}.png", tmp_path / f"{name}.json")
    write_numbers(numbers, {FIRST[name]: [], "seed": 1})
    drawn(figure)
    assert experiment_files(tmp_path, name) == (figure, numbers)


@pytest.mark.parametrize("suffix", [".json", ".png"])
@pytest.mark.parametrize("content", [b"mine", b'{\n "sphere": 1}', b"\x89PNG\r\n\x1a\n"])
def test_what_something_else_wrote_is_not_replaced(
    tmp_path: Path, suffix: str, content: bytes
) -> None:
    own = tmp_path / f"sphere{suffix}"
    own.write_bytes(content)
    with pytest.raises(OutputError, match=rf"sphere\{suffix} exists: choose another name"):
        experiment_files(tmp_path, "sphere")
    write_numbers(tmp_path / "shift.json", {"iou": {}})
    with pytest.raises(OutputError):
        experiment_files(tmp_path, "sphere")
    assert own.read_bytes() == content


def test_figures_of_earlier_versions_are_known_by_their_numbers(tmp_path: Path) -> None:
    figure, numbers = experiment_files(tmp_path, "shift")
    drawn(figure)
    figure.write_bytes(figure.read_bytes().replace(b"Software\0rhm", b"Software\0Matplotlib"))
    with pytest.raises(OutputError):
        experiment_files(tmp_path, "shift")
    write_numbers(numbers, {"iou": {}})
    experiment_files(tmp_path, "shift")


def test_a_folder_that_is_a_file_is_told_before_the_experiment(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")
    with pytest.raises(OutputError, match="it is not a folder"):
        experiment_files(tmp_path / "out", "sphere")
