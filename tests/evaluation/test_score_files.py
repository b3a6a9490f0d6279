"""The schema of scores: what is written is read back; whatever else lies there is one line."""

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rhm.errors import ConfigError, OutputError
from rhm.evaluation.score_files import (
    check_replaced,
    earlier_scores,
    kept_domains,
    of_same_model,
    read_scores,
    write_scores,
)
from rhm.evaluation.scores import (
    FORMAT,
    HISTOGRAM_LEVELS,
    Calibration,
    CalibrationBin,
    DomainScores,
    Example,
    FootprintScores,
    Interval,
    Levels,
    ModelFacts,
    OutlineScores,
    PixelScores,
    Scores,
    Shift,
)
from rhm.records import plain

FLAT = (tuple([1 / HISTOGRAM_LEVELS] * HISTOGRAM_LEVELS),)
SCORE = Interval(0.5, 0.25, None)
SQUARE = (((1.0, 1.0), (5.0, 1.0), (5.0, 4.0), (1.0, 4.0)),)
DOMAIN = DomainScores(
    name="town (gamma shift)",
    role="target",
    shift=Shift("gamma", 3),
    images=9,
    groups=4,
    gsd_m=0.5,
    pixel=PixelScores(SCORE, SCORE, SCORE, SCORE),
    object=FootprintScores(SCORE, SCORE, SCORE, 1, 2, 3),
    boundary_iou={"1m": SCORE, "3m": Interval(None, None, None)},
    calibration=Calibration(
        0.1, (CalibrationBin(0.0, 1.0, 3, 0.25, None),), Levels((2, 1), (1, 1))
    ),
    histogram=FLAT,
    distance=(1e-05,),
    examples=(Example("best", "town_0", 0.5, "examples/a.png", 8, 6, (SQUARE,), ()),),
    catalog="earlier.parquet",
    split="val",
    created="2026-11-22T10:00:00+00:00",
)
SCORES = Scores(
    run="rhm-0",
    method="rhm",
    seed=0,
    split="test",
    catalog="cat\N{LATIN SMALL LETTER A WITH DIAERESIS}log.parquet",
    created="2026-11-23T10:00:00+00:00",
    threshold=0.35,
    views=True,
    model=ModelFacts(
        architecture="unet",
        encoder="tf_efficientnet_lite0",
        bands=1,
        gsd_m=1.0,
        sources=("town",),
        split_hash=None,
        parameters=5_590_000,
        rhm_version="0.1.0",
        training_images=40,
        licence="CC BY 4.0",
        weights="0" * 64,
        histograms={"town": FLAT},
    ),
    domains=(DOMAIN, replace(DOMAIN, name="city", shift=None, histogram=None, distance=None)),
)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    write_scores(SCORES, tmp_path)
    assert read_scores(tmp_path) == SCORES


def test_the_file_has_the_layout_of_its_format(tmp_path: Path) -> None:
    """Format 2 from before there were dataclasses, and the runtime: order and spelling."""
    write_scores(SCORES, tmp_path)
    text = (tmp_path / "scores.json").read_text(encoding="ascii")
    document = json.loads(text)
    assert text.splitlines()[:3] == ["{", ' "format": 7,', ' "run": "rhm-0",']
    assert document["format"] == FORMAT == 7
    assert " ".join(document) == (
        "format run method seed split catalog created threshold views runtime model domains"
    )
    assert " ".join(document["model"]) == (
        "architecture encoder bands gsd_m sources split_hash parameters rhm_version "
        "training_images licence weights classes histograms"
    )
    domain = document["domains"][0]
    assert " ".join(domain) == (
        "name role shift images groups gsd_m pixel object boundary_iou calibration histogram "
        "distance examples catalog split created views threshold outline footprint_scores "
        "unknown_gsd runtime catalog_file other_split rules implied"
    )
    assert domain["shift"] == {"family": "gamma", "seed": 3}
    assert list(domain["pixel"]) == ["iou", "f1", "precision", "recall"]
    assert domain["pixel"]["iou"] == {"value": 0.5, "low": 0.25, "high": None}
    assert " ".join(domain["object"]) == (
        "f1 precision recall true_positives false_positives false_negatives"
    )
    assert list(domain["calibration"]) == ["ece", "bins", "levels"]
    assert list(domain["calibration"]["bins"][0]) == [
        "low", "high", "count", "confidence", "frequency",
    ]  # fmt: skip
    assert list(domain["examples"][0]) == [
        "kind", "name", "iou", "image", "width", "height", "truth", "prediction", "picked",
    ]  # fmt: skip
    assert '"distance": [1e-05]' in text


def test_a_file_that_could_not_be_read_again_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_scores(SCORES, tmp_path)
    before = (tmp_path / "scores.json").read_bytes()
    monkeypatch.setattr("rhm.evaluation.score_files.MOST_BYTES", len(before) - 1)
    with pytest.raises(OutputError, match=r"would be larger than .* --output"):
        write_scores(SCORES, tmp_path)
    assert (tmp_path / "scores.json").read_bytes() == before


def test_early_files_of_the_format_are_read(tmp_path: Path) -> None:
    document = plain(SCORES) | {"format": 2}
    del document["views"], document["runtime"], document["model"]["licence"]
    for domain in document["domains"]:
        del domain["catalog"], domain["split"], domain["created"], domain["views"]
    (tmp_path / "scores.json").write_text(json.dumps(document | {"new": [1]}))
    scores = read_scores(tmp_path)
    assert (scores.views, scores.runtime, scores.model.licence) == (False, "torch", None)
    assert scores.domains == tuple(
        replace(
            domain,
            catalog=SCORES.catalog,
            split=SCORES.split,
            created=SCORES.created,
            runtime="torch",
        )
        for domain in SCORES.domains
    )


def test_the_runtime_of_domains_is_that_of_their_evaluation(tmp_path: Path) -> None:
    """Files did not record it: it is known for the last evaluation, and of earlier ones unknown."""
    document = plain(replace(SCORES, runtime="onnx"))
    document["domains"][1]["created"] = SCORES.created
    for domain in document["domains"]:
        del domain["runtime"]
    (tmp_path / "scores.json").write_text(json.dumps(document))
    kept = read_scores(tmp_path)
    assert [domain.runtime for domain in kept.domains] == ["", "onnx"]
    write_scores(replace(kept, created="2026-11-24T10:00:00+00:00", runtime="torch"), tmp_path)
    assert [domain.runtime for domain in read_scores(tmp_path).domains] == ["", "onnx"]


def test_scores_without_outlines_are_read(tmp_path: Path) -> None:
    """Up to format 5, outlines were not scored."""
    document = plain(SCORES) | {"format": 5}
    for domain in document["domains"]:
        del domain["outline"]
    (tmp_path / "scores.json").write_text(json.dumps(document))
    scores = read_scores(tmp_path)
    assert all(domain.outline is None for domain in scores.domains)


def test_domains_are_kept_for_each_catalog_name_and_shift() -> None:
    town, city = SCORES.domains
    again = replace(SCORES, domains=(replace(city, images=1),))
    assert kept_domains(SCORES, again) == (town,)
    assert kept_domains(SCORES, replace(SCORES, domains=())) == SCORES.domains
    elsewhere = replace(city, catalog="other.parquet")
    assert kept_domains(SCORES, replace(SCORES, domains=(elsewhere,))) == SCORES.domains
    same = replace(city, catalog=os.path.abspath("earlier.parquet"))
    assert kept_domains(SCORES, replace(SCORES, domains=(same,))) == (town,)
    unshifted = replace(town, shift=None)
    assert kept_domains(SCORES, replace(SCORES, domains=(unshifted,))) == SCORES.domains
    assert kept_domains(None, SCORES) == ()


@pytest.mark.parametrize("weights", ["1" * 64, None])
def test_scores_of_other_weights_or_thresholds_are_not_kept(weights: str | None) -> None:
    other = replace(SCORES, model=replace(SCORES.model, weights=weights), domains=())
    assert kept_domains(SCORES, other) == kept_domains(other, SCORES) == ()
    assert kept_domains(SCORES, replace(SCORES, threshold=0.4, domains=())) == ()
    assert not of_same_model(other, other) or weights
    assert of_same_model(SCORES, SCORES)


def test_earlier_scores_are_those_that_can_be_read(tmp_path: Path) -> None:
    assert earlier_scores(tmp_path) is None
    write_scores(SCORES, tmp_path)
    assert earlier_scores(tmp_path) == SCORES
    assert earlier_scores(tmp_path / "scores.json") is None  # below a file there is nothing


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{", "cannot be read"),
        (json.dumps(plain(SCORES) | {"format": 99}), "expected scores of format 2 or"),
        ('{"my": "own"}', "expected scores of format 2 or"),
        ("[]", "is malformed"),
    ],
)
def test_a_file_that_is_no_scores_is_never_taken_for_none(
    tmp_path: Path, text: str, told: str
) -> None:
    (tmp_path / "scores.json").write_text(text)
    with pytest.raises(ConfigError, match=told) as refused:
        earlier_scores(tmp_path)
    assert f"{tmp_path / 'scores.json'}" in str(refused.value)
    assert "is not replaced: choose another --output, or" in str(refused.value)
    assert earlier_scores(tmp_path, overwrite=True) is None


@pytest.mark.parametrize("version", [1, 8, None, "2", [2]])
def test_another_format_is_said_before_anything_else(tmp_path: Path, version: object) -> None:
    (tmp_path / "scores.json").write_text(json.dumps({"format": version, "domains": 7}))
    with pytest.raises(
        ConfigError, match=r"\(expected scores of format 2 or 3 or 4 or 5 or 6 or 7\): run"
    ):
        read_scores(tmp_path)


def test_scores_that_are_not_there_are_of_the_run(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=rf"{tmp_path.name} has no absent/scores\.json: run"):
        read_scores(tmp_path / "absent")
    with pytest.raises(ConfigError, match=r"nowhere is not a run folder: run `rhm evaluate`"):
        read_scores(tmp_path / "nowhere" / "evaluation")


def places(value: Any, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """Every place in a document below its root."""
    inner: Any = ()
    if isinstance(value, dict):
        inner = value.items()
    elif isinstance(value, list):
        inner = enumerate(value)
    found = []
    for key, item in inner:
        found += [(*path, key), *places(item, (*path, key))]
    return found


DOCUMENT = json.loads(json.dumps(plain(SCORES)))
# Of the 256 shares of a histogram a few are enough.
PLACES = [path for path in places(DOCUMENT) if path[-1] not in range(3, 255)]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(PLACES), JSON)
def test_any_value_anywhere_is_read_or_refused_in_one_line(
    tmp_path: Path, place: tuple[str | int, ...], value: object
) -> None:
    document = json.loads(json.dumps(DOCUMENT))
    inner = document
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    (tmp_path / "scores.json").write_text(json.dumps(document))
    try:
        scores = read_scores(tmp_path)
    except ConfigError as error:
        message = str(error)
        assert message.isprintable()
        # Numbers too large for any program are refused before the schema is looked at.
        assert "scores.json is malformed" in message or "scores.json cannot be read" in message
        assert "run `rhm evaluate` on" in message
    else:
        write_scores(scores, tmp_path)
        assert read_scores(tmp_path) == scores


PLAIN = replace(DOMAIN, name="town", shift=None, catalog=os.path.abspath("all.parquet"))


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({}, ""),
        ({"splits": {"village": "test"}}, ""),
        ({"splits": {"town": "all"}}, ""),
        ({"splits": {"town": "all"}, "asked": "test"}, "split val, threshold 0.5"),
        ({"catalog": "other.parquet", "views": True}, ""),
        ({"splits": {"town": "test"}, "asked": "test"}, "split val, threshold 0.5"),
        ({"views": True}, "town"),
        ({"own_threshold": True}, "threshold 0.5"),
        ({"threshold": 0.4, "splits": {"village": "val"}}, "town"),
    ],
)
def test_scores_that_are_not_repeated_are_not_replaced(asked: dict[str, Any], told: str) -> None:
    earlier = replace(SCORES, threshold=0.5, domains=(PLAIN,))
    ways: dict[str, Any] = {
        "catalog": "all.parquet",
        "splits": {"town": "val"},
        "asked": "val",
        "views": False,
        "threshold": 0.5,
        "own_threshold": False,
    }
    if not told:
        check_replaced(earlier, Path("evaluation"), **ways | asked)
        return
    with pytest.raises(ConfigError, match=told) as refused:
        check_replaced(earlier, Path("evaluation"), **ways | asked)
    assert "--output" in str(refused.value)
    assert "--overwrite" in str(refused.value)


def test_several_lost_domains_are_counted() -> None:
    more = replace(PLAIN, name="village", threshold=0.3, views=True)
    earlier = replace(SCORES, threshold=0.5, domains=(more, PLAIN))
    with pytest.raises(ConfigError, match=r"village and 1 more \(split val.*auto, with"):
        check_replaced(
            earlier,
            Path("evaluation"),
            catalog="all.parquet",
            splits={"town": "test", "village": "test"},
            asked="test",
            views=False,
            threshold=0.5,
            own_threshold=False,
        )


@pytest.mark.parametrize("gsd_m", [0.5, None])
def test_earlier_files_have_no_metres_for_pixels_of_unknown_size(
    tmp_path: Path, gsd_m: float | None
) -> None:
    outline = OutlineScores(SCORE, SCORE, SCORE, SCORE, 0.5, 0.5, 0.5)
    domain = replace(DOMAIN, gsd_m=gsd_m, outline=outline)
    write_scores(replace(SCORES, domains=(domain,)), tmp_path)
    (found,) = read_scores(tmp_path).domains
    polis_m = SCORE if gsd_m else Interval(None, None, None)
    assert found.outline == replace(outline, polis_m=polis_m)
