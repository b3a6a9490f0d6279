"""From stored values to a network's input: the oracle is the formula, applied to the pixels."""

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rhm.colour.baselines import STANDARDIZE
from rhm.colour.histogram import Histogram
from rhm.data.radiometry import Scaling
from rhm.data.rasters.raster import Raster
from rhm.errors import ModelFileError
from rhm.models.spec import ModelSpec
from tests.data.imagery import write_raster

STORED = Scaling("uint16", (10.0, 20.0, 30.0), (900.0, 800.0, 700.0))
SPEC = ModelSpec(
    "unet", "resnet18", 3, mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4), scalings={"uint16": STORED}
)
PIXELS = np.random.default_rng(0).integers(0, 1000, (40, 30, 3)).astype(np.uint16)


def test_the_input_is_the_share_of_the_range_normalised() -> None:
    low, high = np.array(STORED.low), np.array(STORED.high)
    shares = np.clip((PIXELS - low) / (high - low), 0.0, 1.0)
    expected = (shares - np.array(SPEC.mean)) / np.array(SPEC.std)
    by_dtype = SPEC.input_table("uint16").apply(PIXELS)
    np.testing.assert_allclose(by_dtype, expected, atol=1e-6)
    np.testing.assert_array_equal(by_dtype, SPEC.input_table(STORED).apply(PIXELS), strict=True)


def test_a_table_that_is_asked_for_again_is_not_made_again() -> None:
    assert SPEC.input_table("uint16") is SPEC.input_table(STORED)
    travelled = pickle.loads(pickle.dumps(SPEC.input_table))  # noqa: S301
    np.testing.assert_array_equal(
        travelled("uint16").tables, SPEC.input_table("uint16").tables, strict=True
    )
    assert len(pickle.dumps(SPEC.input_table)) < 5_000


@pytest.mark.parametrize("standardize", STANDARDIZE)
def test_only_a_standardisation_needs_the_histogram(standardize: str) -> None:
    spec = replace(SPEC, standardize=standardize)
    assert spec.needs_histogram == (standardize != "none")
    if spec.needs_histogram:
        with pytest.raises(ValueError, match=f"'{standardize}' needs the scene's histogram"):
            spec.input_table("uint16")


def test_the_stored_range_holds_and_bytes_fill_their_type() -> None:
    assert SPEC.known_scaling("uint16") == STORED
    assert SPEC.known_scaling("uint8") == Scaling("uint8", (0.0,) * 3, (255.0,) * 3)
    assert SPEC.known_scaling("float32") is None
    with pytest.raises(ValueError, match="stores no value range for float32 imagery"):
        SPEC.input_table("float32")
    narrow = Scaling("uint8", (5.0,) * 3, (99.0,) * 3)
    assert replace(SPEC, scalings={"uint8": narrow}).known_scaling("uint8") == narrow


@pytest.mark.parametrize("standardize", STANDARDIZE)
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_the_table_of_a_raster_is_that_of_its_range_and_histogram(
    tmp_path: Path, dtype: str, standardize: str
) -> None:
    pixels = (PIXELS // 4).astype(dtype)
    spec, counted = replace(SPEC, standardize=standardize), Histogram.of(pixels)
    with Raster(write_raster(tmp_path / "a.tif", pixels)) as raster:
        scaling, table = spec.scaling_of(raster), spec.table_of(raster)
    assert scaling == (STORED if dtype == "uint16" else Scaling.measure(counted))
    expected = spec.input_table(scaling, counted)
    np.testing.assert_array_equal(table.tables, expected.tables, strict=True)


def test_a_raster_of_other_bands_has_no_table(tmp_path: Path) -> None:
    with Raster(write_raster(tmp_path / "a.tif", PIXELS[..., :2])) as raster:
        for wanted in (SPEC.scaling_of, SPEC.table_of):
            with pytest.raises(ModelFileError, match="takes 3 bands, and 2 of"):
                wanted(raster)
