"""Findings of an inspection: plain JSON values, and the best stage for transfer."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rhm.evaluation.features.findings import (
    BestTap,
)
from tests.evaluation.features.made_findings import inspection, stage


@given(st.floats())
def test_values_are_json_and_numbers_that_are_none_are_null(value: float) -> None:
    plain = inspection(stage(0, "home", value)).to_dict()
    again = json.loads(json.dumps(plain, allow_nan=False))
    assert again == plain
    expected = value if math.isfinite(value) else None
    assert plain["stages"][0]["compression"] == expected
    assert plain["stages"][0]["shift"]["building"] == expected
    assert plain["fits"][0]["fit"]["low"] is None
    assert plain["fits"][0]["fit"]["slope"] == pytest.approx(1.0)
    assert plain["left_out"] == ["<gone>"]
    assert plain["best"] is None


def test_the_last_stage_is_that_of_the_highest_number_in_every_domain() -> None:
    stages = [stage(number, domain) for domain in ("home", "away") for number in (2, 0, 1)]
    last = inspection(*stages).last_stage()
    assert [(each.number, each.domain) for each in last] == [(2, "home"), (2, "away")]


@pytest.mark.parametrize(
    ("probe", "last", "margin", "clear"),
    [
        (0.9, 0.8, 0.04, True),
        (0.9, 0.8, 0.12, False),
        (0.8, 0.8, 0.0, False),
        (0.9, 0.8, math.nan, False),
    ],
)
def test_a_tap_is_clearly_better_from_its_margin_on(
    probe: float, last: float, margin: float, clear: bool
) -> None:
    assert BestTap("m", "encoder[1]", True, probe, last, margin).clear is clear
