"""Scores by domain: what identifies them, and at which threshold they were made."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from rhm.evaluation.scores import Shift, finite, located, unknown_sizes
from tests.evaluation.test_score_files import DOMAIN, SCORES


def test_a_score_that_is_not_defined_is_none() -> None:
    assert finite(0.5) == 0.5
    assert finite(float("nan")) is None
    assert finite(float("inf")) is None


def test_a_domain_has_its_own_threshold_or_that_of_the_evaluation() -> None:
    assert SCORES.threshold_of(DOMAIN) == 0.35
    assert SCORES.threshold_of(replace(DOMAIN, threshold=0.2)) == 0.2


def test_the_same_images_under_the_same_shift_have_one_key() -> None:
    same = replace(DOMAIN, catalog=os.path.abspath(DOMAIN.catalog), images=1)
    assert same.key == DOMAIN.key
    assert replace(DOMAIN, shift=None).key != DOMAIN.key
    assert replace(DOMAIN, catalog="other.parquet").key != DOMAIN.key
    moved = replace(DOMAIN, catalog_file="/elsewhere/earlier.parquet")
    assert moved.key != DOMAIN.key
    assert replace(moved, catalog="../earlier.parquet").key == moved.key


def test_shifts_of_several_seeds_are_told_apart() -> None:
    assert DOMAIN.label == "town (gamma shift), seed 3"
    assert replace(DOMAIN, shift=Shift("gamma", 0)).label == "town (gamma shift)"
    assert replace(DOMAIN, name="town", shift=None).label == "town"


def test_a_file_is_where_its_folder_really_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = tmp_path / "real"
    real.mkdir()
    (tmp_path / "link").symlink_to(real)
    (real / "b.parquet").symlink_to(tmp_path / "a.parquet")
    monkeypatch.chdir(tmp_path)
    assert located("link/../link/b.parquet") == str(real.resolve() / "b.parquet")
    assert located("") == ""


def test_domains_without_metres_are_named() -> None:
    assert unknown_sizes([DOMAIN]) is None
    all_of, some = (
        replace(DOMAIN, name=name, unknown_gsd=count) for name, count in (("a", 9), ("b", 2))
    )
    said = unknown_sizes([all_of, DOMAIN, some, some])
    assert said is not None
    assert said.startswith("the ground sampling distance in a, b (2 images) is unknown: a pixel ")
