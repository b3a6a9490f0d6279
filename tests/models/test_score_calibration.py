"""Calibrated scores: precisions that are known, monotone, and read back as they were written."""

import json
from dataclasses import replace
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rhm.errors import ModelFileError
from rhm.models.score_calibration import FEWEST, ScoreCalibration
from rhm.models.spec import ModelSpec
from tests.models.networks import SPEC

COUNTED = ScoreCalibration((0.5, 0.7, 0.9), (100, 100, 100), (20, 60, 90))


def test_scores_become_the_precision_of_footprints_like_them() -> None:
    rng = np.random.default_rng(0)
    scores = rng.uniform(0.4, 1.0, 20_000)
    correct = rng.random(20_000) < scores**2
    found = ScoreCalibration.of(scores, correct)
    assert found is not None
    assert found.total == 20_000
    wanted = np.linspace(0.45, 0.95, 11)
    np.testing.assert_allclose(found(wanted), wanted**2, atol=0.05)


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=FEWEST, max_size=300))
def test_precisions_rise_with_the_score_and_keep_the_share_of_correct_footprints(
    footprints: list[tuple[float, bool]],
) -> None:
    scores, correct = map(np.array, zip(*footprints, strict=True))
    found = ScoreCalibration.of(scores, correct)
    assert found is not None
    assert (np.diff(found(np.linspace(0, 1, 50))) >= -1e-12).all()
    share = np.average(found.precision, weights=found.footprints)
    assert share == pytest.approx(correct.mean())


def test_few_footprints_are_no_calibration() -> None:
    assert ScoreCalibration.of(np.full(FEWEST - 1, 0.7), np.ones(FEWEST - 1, bool)) is None


def test_a_description_keeps_its_calibration_in_a_higher_format() -> None:
    spec = replace(SPEC, score_calibration=COUNTED)
    assert ModelSpec.from_json(spec.to_json()) == spec
    assert json.loads(spec.to_json())["format"] > json.loads(SPEC.to_json())["format"] == 4
    assert "score_calibration" not in json.loads(SPEC.to_json())
    # Predictions of earlier versions are recognised by this text.
    assert repr(spec) == repr(SPEC)


@pytest.mark.parametrize(
    "change",
    [
        {"scores": [0.5, 0.7]},
        {"scores": [0.9, 0.7, 0.5]},
        {"scores": [0.5, 0.7, 2.0]},
        {"correct": [20, 60, 900]},
        {"footprints": [0, 100, 100]},
        {"footprints": [1.5, 100, 100]},
        {"scores": []},
        {"bins": 3},
        {"scores": ["a", "b", "c"]},
    ],
)
def test_calibrations_that_are_none_are_refused(change: dict[str, object]) -> None:
    values = json.loads(replace(SPEC, score_calibration=COUNTED).to_json())
    values["score_calibration"] |= change
    with pytest.raises(ModelFileError, match="not a model description"):
        ModelSpec.from_json(json.dumps(values))


@given(st.lists(st.sampled_from([0.2, 0.99, 1.0]), min_size=FEWEST, max_size=300), st.randoms())
def test_the_order_of_footprints_does_not_matter(scores: list[float], random: Random) -> None:
    """Saturated networks give many footprints the same score."""
    footprints = [(score, random.random() < score / 2) for score in scores]
    shuffled = random.sample(footprints, len(footprints))
    one, other = (ScoreCalibration.of(*zip(*each, strict=True)) for each in (footprints, shuffled))
    assert one == other
    assert one is not None
    assert one.total == len(scores)
