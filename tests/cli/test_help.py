"""Help: complete in a terminal of 80 columns, with an example and the limits of options."""

from collections.abc import Callable

import pytest

from rhm.data.chips import MOST_CHIP_PX
from rhm.inference.runtime.onnx_export import MOST_TILE_PX
from tests.cli.test_main import COMMANDS

Rhm = Callable[..., tuple[int, str, str]]

GROUPS = sorted({words[:1] for words in COMMANDS if len(words) > 1})


@pytest.fixture(autouse=True)
def _narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")


@pytest.mark.parametrize("words", [(), *GROUPS, *COMMANDS], ids=" ".join)
def test_help_is_never_cut_short(rhm: Rhm, words: tuple[str, ...]) -> None:
    code, printed, _ = rhm(*words, "--help")
    assert code == 0
    assert max(map(len, printed.splitlines())) <= 80
    assert "\N{HORIZONTAL ELLIPSIS}" not in printed


@pytest.mark.parametrize(
    ("words", "limits"),
    [
        (["adapt"], [f"a multiple of 32 up to {MOST_CHIP_PX}", "above 0 and below 10"]),
        (["train"], ["above 0 and below 10"]),
        (["analyze"], ["pixels, a multiple of 32", "a power of two"]),
        (["export"], [f"a multiple of 32 up to {MOST_TILE_PX}", "at most half a tile"]),
        (["predict"], ["--no-resample"]),
        (["bank", "build"], ["--no-spectrum"]),
        (
            ["models"],
            ["Example: rhm models", "Only add fetches, and only what you name."],
        ),
    ],
    ids=lambda value: " ".join(value),
)
def test_limits_are_told(
    rhm: Rhm, monkeypatch: pytest.MonkeyPatch, words: list[str], limits: list[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    printed = " ".join(rhm(*words, "--help")[1].split())
    assert [each for each in limits if each not in printed] == []


def test_a_threshold_is_no_number_between_limits(rhm: Rhm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    lines = rhm("predict", "--help")[1].splitlines()
    (line,) = [line for line in lines if "--threshold" in line]
    assert "<=" not in line
