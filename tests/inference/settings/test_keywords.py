"""A function that takes a dataclass's fields as keywords. Oracle: the dataclass itself."""

import inspect
from dataclasses import dataclass

import pytest
from geopandas import GeoDataFrame

from rhm.errors import ConfigError
from rhm.inference import polygonize, predict_raster
from rhm.inference.prediction import Prediction
from rhm.inference.prediction_config import PredictionConfig
from rhm.inference.settings.keywords import taking
from rhm.inference.settings.option import check_options, option, options_of
from rhm.inference.settings.polygon_config import PolygonConfig


@dataclass(frozen=True)
class Dough:
    flour_g: float = option(500.0, "Flour.", least=0)
    yeast: bool = False

    def __post_init__(self) -> None:
        check_options(self)


@taking(Dough)
def bake(oven: str, dough: Dough) -> tuple[str, Dough]:
    """Bake."""
    return oven, dough


def test_keywords_become_the_dataclass() -> None:
    assert bake("hot") == ("hot", Dough())
    assert bake("hot", yeast=True) == ("hot", Dough(yeast=True))
    assert bake(oven="cold") == ("cold", Dough())  # type: ignore[call-arg]  # Concatenate's limit
    assert bake.__name__ == "bake"
    assert str(inspect.signature(bake)).startswith(
        "(oven: str, *, flour_g: float = 500.0, yeast: bool = False)"
    )
    assert inspect.getdoc(bake) == "Bake.\n\nOptions:\n    flour_g: Flour."


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ConfigError, match="flour_g must be at least 0"):
        bake("hot", flour_g=-1.0)
    with pytest.raises(TypeError, match="sugar"):
        bake("hot", sugar=1)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="positional"):
        bake("hot", 300.0)
    with pytest.raises(TypeError, match="oven"):
        bake()  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("function", "config", "own"),
    [
        (predict_raster, PredictionConfig, ["model", "src", "dst"]),
        (polygonize, PolygonConfig, ["probability"]),
    ],
)
def test_the_functions_of_prediction_take_every_option(
    function: object, config: type, own: list[str]
) -> None:
    parameters = inspect.signature(function).parameters  # type: ignore[arg-type]
    assert list(parameters)[: len(own)] == own
    for name, known in options_of(config).items():
        assert parameters[name].kind is inspect.Parameter.KEYWORD_ONLY
        assert parameters[name].default == getattr(config, name)
        assert f"    {name}: {known.told()}" in (function.__doc__ or "")


def test_the_type_of_the_result_is_kept() -> None:
    assert inspect.signature(predict_raster).return_annotation is Prediction
    assert inspect.signature(polygonize).return_annotation is GeoDataFrame
