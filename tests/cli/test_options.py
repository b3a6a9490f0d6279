"""Options that commands share."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rhm.cli.options import band_numbers
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
