"""Catalogs of scores: told apart by where they are, from wherever they are scored and read."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from rhm.evaluation.score_files import kept_domains, read_scores, write_scores
from rhm.evaluation.scores import Scores, located
from tests.evaluation.test_score_files import DOMAIN, SCORES


def scored(catalog: Path, given: str) -> Scores:
    """Scores of one domain of a catalog, which was named by another path."""
    domain = replace(DOMAIN, catalog=given, catalog_file=located(str(catalog)))
    return replace(SCORES, domains=(domain,))


def test_catalogs_of_one_name_are_told_apart_wherever_they_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = (scored(tmp_path / name / "c.parquet", "c.parquet") for name in "ab")
    assert kept_domains(first, second) == first.domains
    evaluation = tmp_path / "run" / "evaluation"
    both = replace(second, domains=(*first.domains, *second.domains))
    write_scores(both, evaluation)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        read = read_scores(evaluation)
        assert [domain.key for domain in read.domains] == [domain.key for domain in both.domains]
        # The report names catalogs by what was given, which does not distinguish these.
        assert [domain.catalog for domain in read.domains] == [
            domain.catalog_file for domain in both.domains
        ]
        write_scores(read, evaluation)


def test_one_catalog_is_the_same_by_every_path(tmp_path: Path) -> None:
    first = scored(tmp_path / "c.parquet", "c.parquet")
    again = scored(tmp_path / "a" / ".." / "c.parquet", "../c.parquet")
    assert kept_domains(first, again) == ()
    other = replace(first.domains[0], name="city")
    write_scores(replace(again, domains=(other, *again.domains)), tmp_path)
    assert {domain.catalog for domain in read_scores(tmp_path).domains} == {"../c.parquet"}


def test_a_project_can_be_moved(tmp_path: Path) -> None:
    project = tmp_path / "project"
    scores = scored(project / "data" / "c.parquet", "data/c.parquet")
    write_scores(scores, project / "runs" / "one" / "evaluation")
    stored = json.loads((project / "runs" / "one" / "evaluation" / "scores.json").read_text())
    assert stored["domains"][0]["catalog_file"] == "../../../data/c.parquet"
    shutil.move(project, tmp_path / "moved")
    moved = read_scores(tmp_path / "moved" / "runs" / "one" / "evaluation")
    assert moved.domains[0].catalog_file == located(str(tmp_path / "moved/data/c.parquet"))
    assert moved.domains[0].catalog == "data/c.parquet"


def test_a_catalog_somewhere_else_has_an_absolute_path(tmp_path: Path) -> None:
    """Only the root in common: what is moved together is not below it."""
    far = replace(scored(tmp_path, "c"), domains=(replace(DOMAIN, catalog_file="/c.parquet"),))
    write_scores(far, tmp_path)
    stored = json.loads((tmp_path / "scores.json").read_text())
    assert stored["domains"][0]["catalog_file"] == "/c.parquet"
    assert read_scores(tmp_path) == far


def test_files_that_do_not_say_where_a_catalog_is_are_read_as_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_scores(SCORES, tmp_path)
    monkeypatch.chdir(tmp_path)
    (earlier, _) = read_scores(tmp_path).domains
    assert (earlier.catalog, earlier.catalog_file) == ("earlier.parquet", "")
    assert earlier.key == replace(earlier, catalog_file=located("earlier.parquet")).key


def test_a_run_that_was_copied_alone_is_of_the_catalog_that_is_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "c.parquet").touch()
    monkeypatch.chdir(tmp_path)
    scores = scored(tmp_path / "c.parquet", "c.parquet")
    write_scores(scores, tmp_path / "runs" / "one" / "evaluation")
    shutil.copytree(tmp_path / "runs" / "one", tmp_path / "far" / "away" / "from" / "it")
    copied = read_scores(tmp_path / "far" / "away" / "from" / "it" / "evaluation")
    assert copied == scores
    # Where there is no such file, the place of the copy tells catalogs apart as before.
    (tmp_path / "c.parquet").unlink()
    copied = read_scores(tmp_path / "far" / "away" / "from" / "it" / "evaluation")
    assert copied.domains[0].catalog_file == str(tmp_path.resolve() / "far" / "away" / "c.parquet")


def test_a_domain_that_was_scored_again_by_another_path_counts_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file of an earlier version says nothing of where its catalog is."""
    monkeypatch.chdir(tmp_path)
    catalog = str(tmp_path.resolve() / "c.parquet")
    before = replace(DOMAIN, catalog="c.parquet", created="2026-01-01")
    after = replace(DOMAIN, catalog=catalog, catalog_file=catalog, created="2026-02-01")
    write_scores(replace(SCORES, domains=(before, after)), tmp_path)
    (only,) = read_scores(tmp_path).domains
    assert only.created == "2026-02-01"
