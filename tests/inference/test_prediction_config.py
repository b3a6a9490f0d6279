"""The options of a prediction: their choices are what can be written, their parts what is used."""

import pytest

from rhm.data.rasters.cog import COMPRESSIONS
from rhm.errors import ConfigError
from rhm.inference.layers.vector_files import FORMATS
from rhm.inference.prediction_config import PredictionConfig, band_numbers
from rhm.inference.settings.option import options_of
from rhm.inference.settings.tile_config import Tiling
from rhm.inference.tiling.storage import STORAGES


def test_choices_are_what_can_be_written() -> None:
    known = options_of(PredictionConfig)
    choices = {name: list(option.choices()) for name, option in known.items() if option.choices}
    assert choices == {
        "suffix": [suffix[1:] for suffix in FORMATS],
        "dtype": list(STORAGES),
        "compress": list(COMPRESSIONS),
    }
    assert PredictionConfig.suffix in FORMATS


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"dtype": "float64"}, "unknown dtype 'float64': choose uint8, float32"),
        ({"compress": "lzw"}, "unknown compression 'lzw': choose deflate, zstd"),
        ({"tile": 64, "overlap": 64}, "overlap must be smaller than tile"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
    ],
)
def test_impossible_values_are_refused(values: dict[str, object], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        PredictionConfig(**values)  # type: ignore[arg-type]


def test_the_tiling_is_a_part() -> None:
    config = PredictionConfig(tile=96, overlap=32, batch_size=2, views=True, dtype="uint8")
    assert config.tiling == Tiling(96, 32, 2, True)
    assert (config.tiling.passes, PredictionConfig().tiling.passes) == (8, 1)


def test_band_numbers_are_read() -> None:
    assert band_numbers("3,2, 1") == (3, 2, 1)
    for text in ("", "0", "1,-2", "red", "1;2"):
        with pytest.raises(ConfigError, match="is not a list of band numbers"):
            band_numbers(text)
