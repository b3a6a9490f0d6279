"""The files of an experiment: its numbers as JSON, and its figure."""

import json
from pathlib import Path
from typing import Any

from rhm.cli.output_files import check_output, head_of
from rhm.files import check_folder_writable, write_text

FIRST = {
    "shift": "iou",
    "sphere": "settings",
    "parsimony": "layers",
    "linear-separation": "networks",
    "matrix-completion": "runs",
    "deep-lora": "errors",
}
"""For each experiment, the name of the first of its numbers, by which its file is known again."""

_SOFTWARE = b"Software\x00"


def experiment_files(folder: Path, name: str) -> tuple[Path, Path]:
    """Return the figure and the numbers that an experiment writes.

    Args:
        folder: folder for both.
        name: one of ``FIRST``.

    Raises:
        OutputError: one of them exists, and no experiment of this name wrote it; or the folder
            cannot be written to.
    """
    check_folder_writable(folder)
    figure, numbers = folder / f"{name}.png", folder / f"{name}.json"
    check_output(numbers, (), ours=lambda path: _are_numbers(path, name))
    check_output(figure, (), ours=lambda path: _is_figure(path, numbers))
    return figure, numbers


def write_numbers(path: Path, values: dict[str, Any]) -> None:
    """Write the numbers of an experiment, of which the first is that in ``FIRST``.

    Raises:
        OutputError: the file cannot be written.
    """
    write_text(path, json.dumps(values, indent=1) + "\n")


def _are_numbers(path: Path, name: str) -> bool:
    return head_of(path).startswith(f'{{\n "{FIRST[name]}": '.encode())


def _is_figure(path: Path, numbers: Path) -> bool:
    """Return whether a figure is one of rhm; earlier ones are known by the numbers beside them."""
    head = head_of(path)
    return _SOFTWARE + b"rhm" in head or (_SOFTWARE + b"Matplotlib" in head and numbers.exists())
