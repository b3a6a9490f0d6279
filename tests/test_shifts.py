"""Laws of the random pixel-wise shifts."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rhm.errors import ConfigError
from rhm.shifts import SHIFTS, shift_of

RANGES = [("uint8", 255.0), ("uint8", 90.0), ("uint16", 2047.0), ("uint16", 65535.0)]


@given(
    st.sampled_from(sorted(SHIFTS)),
    st.sampled_from([*RANGES, ("uint16", 65536.0)]),
    st.integers(1, 8),
    st.integers(0, 1 << 31),
    st.text(max_size=5),
)
def test_a_shift_keeps_the_order_of_values_and_the_range(
    family: str, imagery: tuple[str, float], bands: int, seed: int, name: str
) -> None:
    dtype, high = imagery
    shift = shift_of(family, name, dtype=np.dtype(dtype), bands=bands, high=high, seed=seed)
    assert shift.bands == bands
    assert shift.input_dtype.name == shift.output_dtype.name == dtype
    tables = shift.tables.astype(np.int64)
    assert (np.diff(tables, axis=1) >= 0).all()
    assert tables.max() <= high


@pytest.mark.parametrize("family", sorted(SHIFTS))
@pytest.mark.parametrize(("dtype", "high"), RANGES)
def test_seed_and_name_decide_the_shift(family: str, dtype: str, high: float) -> None:
    def tables(name: str, seed: int) -> bytes:
        drawn = shift_of(family, name, dtype=np.dtype(dtype), bands=3, high=high, seed=seed)
        return drawn.tables.tobytes()

    assert tables("a.tif", 1) == tables("a.tif", 1)
    assert len({tables(name, seed) for name in ("a.tif", "b.tif") for seed in (1, 2)}) == 4


@pytest.mark.parametrize("family", sorted(SHIFTS))
def test_bands_are_shifted_differently(family: str) -> None:
    drawn = shift_of(family, "a", dtype=np.dtype(np.uint8), bands=3, high=255.0, seed=0)
    assert len({table.tobytes() for table in drawn.tables}) == 3


@pytest.mark.parametrize("family", sorted(SHIFTS))
def test_shifts_vary_around_the_image_as_it_is(family: str) -> None:
    heights = [
        shift_of(family, "a", dtype=np.dtype(np.uint8), bands=1, high=255.0, seed=seed).tables[
            0, 128
        ]
        for seed in range(200)
    ]
    assert min(heights) < 90
    assert max(heights) > 165


def test_a_file_name_need_not_be_utf_8() -> None:
    name = b"caf\xe9.tif".decode(errors="surrogateescape")
    drawn = shift_of("gamma", name, dtype=np.dtype(np.uint8), bands=1, high=255.0, seed=0)
    assert drawn.tables[0, 255] == 255


def test_an_unknown_family_is_refused_with_what_there_is() -> None:
    with pytest.raises(ConfigError, match=r"unknown shift 'sepia': choose affine, gamma, monotone"):
        shift_of("sepia", "a", dtype=np.dtype(np.uint8), bands=1, high=255.0, seed=0)
