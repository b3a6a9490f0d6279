"""Options that commands share."""

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rhm.cli.options import LARGEST_SEED, band_numbers
from rhm.errors import ConfigError

BANDS = st.lists(st.integers(1, 500), min_size=1)


@given(BANDS)
def test_bands_are_read_as_they_are_written(bands: list[int]) -> None:
    assert band_numbers(",".join(map(str, bands))) == tuple(bands)
    assert band_numbers(" , ".join(map(str, bands))) == tuple(bands)


def test_no_bands_are_all_of_them() -> None:
    assert band_numbers(None) is None


@pytest.mark.parametrize("text", ["", ",", "1,", "0", "1,-2", "red", "1.5", "1;2"])
def test_what_is_no_list_of_bands_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="3,2,1"):
        band_numbers(text)


@pytest.mark.parametrize(
    "words",
    [
        ["evaluate", "{run}", "{catalog}", "--shift", "gamma", "--shift-seed"],
        ["bank", "build", "{catalog}", "-o", "x.bank", "--shift", "gamma", "--shift-seed"],
        ["analyze", "{run}", "{catalog}", "--seed"],
        ["data", "index", "folder", "{world}", "--seed"],
    ],
    ids=lambda words: words[0],
)
def test_seeds_that_no_generator_takes_are_refused(
    rhm: Callable[..., tuple[int, str, str]],
    trained: Path,
    catalog_path: Path,
    world: Path,
    words: list[str],
) -> None:
    places = {"run": trained, "catalog": catalog_path, "world": world}
    code, printed, err = rhm(*(word.format(**places) for word in words), LARGEST_SEED + 1)
    assert (code, printed, err.count("\n")) == (2, "", 1)
    assert str(LARGEST_SEED) in err


@pytest.mark.parametrize(
    "words",
    [["evaluate", "{run}", "{catalog}"], ["bank", "build", "{catalog}", "-o", "{out}"]],
    ids=lambda words: words[0],
)
def test_the_seed_of_a_shift_needs_a_shift(
    rhm: Callable[..., tuple[int, str, str]],
    trained: Path,
    catalog_path: Path,
    tmp_path: Path,
    words: list[str],
) -> None:
    out = tmp_path / "x.bank"
    places = {"run": trained, "catalog": catalog_path, "out": out}
    command = [word.format(**places) for word in words]
    # A seed of 0 is one that was given, too.
    code, printed, err = rhm(*command, "--shift-seed", 0)
    assert (code, printed, out.exists()) == (2, "", False)
    assert "--shift-seed applies to --shift" in err
