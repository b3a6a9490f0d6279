"""Descriptions: what is written is what is read, and nothing else is a description."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import wasserstein_distance

from rhm.colour.baselines import STANDARDIZE, standardized
from rhm.colour.histogram import Histogram
from rhm.data.radiometry import Scaling
from rhm.errors import ModelFileError
from rhm.models.spec import ModelSpec
from tests.models.networks import SPEC


@pytest.mark.parametrize(
    "change",
    [
        {"format": 99},
        {"format": "x"},
        {"shoes": 2},
        {"bands": "three"},
        {"bands": 4},
        {"scalings": 3},
        {"scalings": {"uint16": {"dtype": "uint16", "low": [5] * 3, "high": [5] * 3}}},
        {"scalings": {"float64": {"dtype": "float64", "low": [0] * 3, "high": [1] * 3}}},
        {"standardize": "sepia"},
        {"standardize": ["equalize"]},
        {"threshold": None},
        {"threshold": 2},
        {"gsd_m": 0},
        {"std": [0.0]},
        {"mean": ["a"]},
        {"mean": [0.5, 0.5]},
        {"architecture": ["unet"]},
        {"source_histograms": {"here": [[1.0]]}},
    ],
)
def test_descriptions_that_are_none_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(ModelFileError, match="not a model description"):
        ModelSpec.from_json(json.dumps(json.loads(SPEC.to_json()) | change))
    with pytest.raises(ModelFileError, match="not a model description"):
        ModelSpec.from_json("[1, 2]")


def test_a_standardisation_comes_before_the_normalisation_and_travels_along() -> None:
    pixels = np.random.default_rng(0).integers(10, 900, (20, 30, 3)).astype(np.uint16)
    scene, scaling = Histogram.of(pixels), SPEC.scalings["uint16"]
    plain = SPEC.input_table(scaling)
    np.testing.assert_array_equal(plain.tables, SPEC.input_table("uint16").tables)
    for name in STANDARDIZE:
        spec = replace(SPEC, standardize=name)
        assert ModelSpec.from_json(spec.to_json()) == spec
        first = standardized(name, scene, scaling.low, scaling.high)
        expected = plain.apply(first.apply(pixels))
        np.testing.assert_array_equal(spec.input_table(scaling, scene).apply(pixels), expected)
        if name != "none":
            assert (expected != plain.apply(pixels)).any()
            with pytest.raises(ValueError, match=f"'{name}' needs the scene's histogram"):
                spec.input_table(scaling)


def test_a_description_from_before_there_were_standardisations_has_none() -> None:
    values = json.loads(SPEC.to_json())
    del values["standardize"]
    assert ModelSpec.from_json(json.dumps(values)) == SPEC


def test_bands_and_distances() -> None:
    SPEC.check_bands(3, "a.tif")
    with pytest.raises(ModelFileError, match=r"takes 3 bands, and 4 of .*a.tif are read"):
        SPEC.check_bands(4, "a.tif")
    seen = np.zeros((3, 256))
    seen[:, 51] = 1.0
    nearest, distance = SPEC.source_distance(seen)
    assert nearest == "here"
    np.testing.assert_allclose(distance, 0.2)
    with pytest.raises(ModelFileError, match="does not record"):
        ModelSpec("unet", "resnet18", 3).source_distance(seen)


def test_a_description_of_the_version_before_does_not_know_what_it_expects() -> None:
    values = json.loads(ModelSpec("unet", "resnet18", 3, expected_iou=0.7).to_json())
    assert ModelSpec.from_json(json.dumps(values)).expected_iou == 0.7
    del values["expected_iou"]
    values["format"] = 3
    assert ModelSpec.from_json(json.dumps(values)).expected_iou is None


@pytest.mark.parametrize("value", [1.5, "much", float("nan"), True])
def test_an_expected_iou_that_is_none_is_refused(value: object) -> None:
    values = json.loads(ModelSpec("unet", "resnet18", 3).to_json()) | {"expected_iou": value}
    with pytest.raises(ModelFileError, match="expected_iou"):
        ModelSpec.from_json(json.dumps(values))


RANGES = st.tuples(st.floats(-1e4, 1e4), st.floats(1.0, 1e4)).map(lambda at: (at[0], sum(at)))


def specs(bands: int) -> st.SearchStrategy[ModelSpec]:
    """Any description of a network of so many bands."""
    return st.builds(
        ModelSpec,
        architecture=st.sampled_from(["unet", "fpn"]),
        encoder=st.just("resnet18"),
        bands=st.just(bands),
        mean=st.tuples(*[st.floats(-10, 10)] * bands),
        std=st.tuples(*[st.floats(1e-3, 10)] * bands),
        scalings=st.lists(RANGES, min_size=bands, max_size=bands).map(
            lambda ranges: {"float32": Scaling("float32", *zip(*ranges, strict=True))}
        ),
        gsd_m=st.none() | st.floats(1e-3, 100),
        threshold=st.floats(0, 1),
        expected_iou=st.none() | st.floats(0, 1),
        standardize=st.sampled_from(list(STANDARDIZE)),
        sources=st.lists(st.text()).map(tuple),
        seed=st.integers(0, 2**32),
        licence=st.text(),
    )


@given(st.integers(1, 4).flatmap(specs))
def test_what_is_written_is_what_is_read(spec: ModelSpec) -> None:
    assert ModelSpec.from_json(spec.to_json()) == spec


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(st.text() | JSON.map(json.dumps))
def test_any_other_text_is_refused_as_a_description(text: str) -> None:
    with pytest.raises(ModelFileError, match="not a model description"):
        ModelSpec.from_json(text)


def test_the_distance_to_a_source_is_scipys_in_shares_of_the_range() -> None:
    rng = np.random.default_rng(0)
    near, far, seen = (rng.dirichlet(np.full(256, 0.05), size=2) for _ in range(3))
    near = 0.9 * seen + 0.1 * near
    spec = ModelSpec(
        "unet", "resnet18", 2, source_histograms={"far": far.tolist(), "near": near.tolist()}
    )
    nearest, distance = spec.source_distance(seen)
    levels = np.arange(256) / 255
    expected = [
        wasserstein_distance(levels, levels, *pair) for pair in zip(seen, near, strict=True)
    ]
    assert nearest == "near"
    np.testing.assert_allclose(distance, expected, atol=1e-9)
