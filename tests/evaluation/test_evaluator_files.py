"""What an evaluation leaves on the disk: all that it measured, and all that was there before."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import geopandas
import pandas
import pytest

from rhm.data.catalog import Catalog
from rhm.errors import CatalogError, ConfigError, ModelFileError, OutputError, RasterError
from rhm.evaluation.evaluator import evaluate_model
from rhm.evaluation.score_files import read_scores
from rhm.evaluation.scores import Scores
from rhm.inference.tiling.stream import Tiling
from rhm.models.build import SegmentationModel

Evaluate = Callable[..., Scores]


@pytest.fixture(scope="module")
def catalog(catalog_path: Path) -> Catalog:
    """Two domains with two images each."""
    whole = Catalog.load(catalog_path)
    frame = whole.select(domains=["alder_aerial", "birch_aerial"]).frame
    return Catalog(frame.groupby("domain", sort=False).head(2).reset_index(drop=True))


@pytest.fixture(scope="module")
def model(bright: SegmentationModel) -> SegmentationModel:
    """A model of the first of these domains."""
    return of_sources(bright, "alder_aerial")


def of_sources(model: SegmentationModel, *sources: str, split_hash: str = "") -> SegmentationModel:
    """The same network with other training domains."""
    made = SegmentationModel(replace(model.spec, sources=sources, split_hash=split_hash))
    made.network = model.network
    return made.eval()


@pytest.fixture
def evaluate(model: SegmentationModel, catalog: Catalog, tmp_path: Path) -> Evaluate:
    """Score all images of a catalog into ``tmp_path / "evaluation"``."""

    def scores(listed: Catalog = catalog, model: SegmentationModel = model, **options: Any) -> Any:
        settings: dict[str, Any] = {"name": "run", "split": None, "tiling": Tiling(96, 0)}
        return evaluate_model(model, listed, tmp_path / "evaluation", **(settings | options))

    return scores


def with_images(catalog: Catalog, **images: Path) -> Catalog:
    """A catalog in which the last image of each named domain is another file."""
    frame = catalog.frame.copy()
    for domain, path in images.items():
        frame.loc[frame.index[frame["domain"] == domain][-1], "image"] = str(path)
    return Catalog(frame)


def test_an_image_that_cannot_be_read_costs_only_its_own_domain(
    evaluate: Evaluate, catalog: Catalog, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.tif"
    broken.write_bytes(catalog.tiles[0].image.read_bytes()[:3000])
    with pytest.raises(RasterError, match=r"broken.tif.*; the scores of alder_aerial are in "):
        evaluate(with_images(catalog, birch_aerial=broken))
    (kept,) = read_scores(tmp_path / "evaluation").domains
    (alone,) = evaluate(domains=["alder_aerial"]).domains
    assert (kept.name, kept.pixel, kept.images) == ("alder_aerial", alone.pixel, 2)
    # Scores at another threshold, which these would replace as a whole, stay as they are.
    before = read_scores(tmp_path / "evaluation")
    with pytest.raises(RasterError, match=r"broken\.tif") as other:
        evaluate(with_images(catalog, birch_aerial=broken), threshold=0.3)
    assert "the scores of" not in str(other.value)
    assert read_scores(tmp_path / "evaluation") == before
    # In the first domain there is nothing to keep, and nothing more to say.
    with pytest.raises(RasterError) as first:
        evaluate(with_images(catalog, alder_aerial=broken))
    assert "the scores of" not in str(first.value)


def test_what_is_missing_or_does_not_fit_is_told_before_anything_is_scored(
    evaluate: Evaluate, catalog: Catalog, tmp_path: Path
) -> None:
    seen: list[None] = []
    with pytest.raises(CatalogError, match=r"no such file: .*gone\.tif: restore what is missing"):
        evaluate(
            with_images(catalog, birch_aerial=tmp_path / "gone.tif"),
            on_progress=lambda: seen.append(None),
        )
    five = Catalog(catalog.frame.assign(bands=[3, 3, 3, 5]))
    with pytest.raises(ModelFileError, match=r"takes 3 bands.* has 5: choose other") as refused:
        evaluate(five, on_progress=lambda: seen.append(None))
    assert "--bands" not in str(refused.value)
    assert seen == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", ['{"my": "own"}', '{"format": 99}', "{"])
def test_a_file_that_is_no_scores_is_not_replaced(
    evaluate: Evaluate, tmp_path: Path, text: str
) -> None:
    file = tmp_path / "evaluation" / "scores.json"
    file.parent.mkdir()
    file.write_text(text)
    seen: list[None] = []
    with pytest.raises(ConfigError, match="is not replaced"):
        evaluate(on_progress=lambda: seen.append(None))
    assert (file.read_text(), seen) == (text, [])
    assert [*file.parent.iterdir()] == [file]
    written = evaluate(overwrite=True, domains=["alder_aerial"])
    assert read_scores(file.parent) == written


def test_what_cannot_be_written_is_told_before_anything_is_scored(
    evaluate: Evaluate, tmp_path: Path
) -> None:
    (tmp_path / "evaluation").write_text("a file")
    seen: list[None] = []
    with pytest.raises(OutputError, match="cannot write to"):
        evaluate(on_progress=lambda: seen.append(None))
    assert seen == []


def test_pictures_of_domains_with_similar_names_are_all_kept(
    evaluate: Evaluate, catalog: Catalog, tmp_path: Path
) -> None:
    """Of other letters, of one name on file systems that ignore case, and of endless names."""
    names = ["new york", "new.york", "new_york", "New_York"]
    long = [f"{'long' * 80}{letter}" for letter in "ab"]
    images = catalog.select(domains=["alder_aerial"]).frame.iloc[:1]
    frames = [images.assign(domain=name) for name in (*names, *long)]
    listed = pandas.concat(frames, ignore_index=True)
    scores = evaluate(Catalog(geopandas.GeoDataFrame(listed, crs=images.crs)))
    pictures = [each.image for domain in scores.domains for each in domain.examples]
    assert len(pictures) == len(scores.domains) == 6
    assert len({picture.casefold() for picture in pictures}) == 6
    assert all((tmp_path / "evaluation" / picture).is_file() for picture in pictures)


def test_a_picture_that_no_evaluation_wrote_is_not_replaced(
    evaluate: Evaluate, tmp_path: Path
) -> None:
    folder = tmp_path / "evaluation" / "examples"
    folder.mkdir(parents=True)
    (folder / "alder_aerial-best.png").write_text("mine")
    for _ in range(2):
        (domain,) = evaluate(domains=["alder_aerial"]).domains
        pictures = {folder.parent / example.image for example in domain.examples}
        assert {*folder.iterdir()} == {*pictures, folder / "alder_aerial-best.png"}
    assert (folder / "alder_aerial-best.png").read_text() == "mine"


def test_catalogs_of_one_name_are_scored_side_by_side(
    evaluate: Evaluate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        evaluate(domains=["alder_aerial"], catalog_path="c.parquet")
    monkeypatch.chdir(tmp_path)
    evaluate(domains=["alder_aerial"], catalog_path="a/c.parquet")
    files = [domain.catalog_file for domain in read_scores(tmp_path / "evaluation").domains]
    assert files == [str(tmp_path.resolve() / name / "c.parquet") for name in ("b", "a")]


def test_the_scores_of_a_model_without_sources_add_up_too(
    evaluate: Evaluate, bright: SegmentationModel, tmp_path: Path
) -> None:
    stranger = of_sources(bright)
    assert len(evaluate(model=stranger).domains) == 2
    with pytest.raises(ConfigError, match="the model names no sources"):
        read_scores(tmp_path / "evaluation")


def test_scores_record_which_images_they_are_of(
    evaluate: Evaluate, bright: SegmentationModel, catalog: Catalog
) -> None:
    frame = catalog.frame.assign(split=["test", "train", "train", "train"])
    split = Catalog(frame)
    trained = of_sources(bright, "alder_aerial", split_hash=split.split_hash())
    found = evaluate(split, trained, split="test")
    assert [(domain.split, domain.images) for domain in found.domains] == [("test", 1), ("all", 2)]
    assert not any(domain.other_split for domain in found.domains)
    again = Catalog(frame.assign(split=["train", "test", "train", "train"]))
    found = evaluate(again, trained, split="test")
    assert [domain.other_split for domain in found.domains] == [True, False]


def test_names_that_cannot_be_printed_are_scored_again_and_again(
    evaluate: Evaluate, catalog: Catalog, model: SegmentationModel, tmp_path: Path
) -> None:
    frame = catalog.frame.copy()
    renamed = tmp_path / "a\nb.tif"
    renamed.write_bytes(Path(frame.loc[0, "image"]).read_bytes())
    frame.loc[0, "image"] = str(renamed)
    frame["domain"] = [f"to\n{name}" for name in frame["domain"]]
    trained = of_sources(model, "to\nalder_aerial")
    for _ in range(2):
        scores = evaluate(Catalog(frame), trained)
        stored = read_scores(tmp_path / "evaluation")
        assert [each.name for each in stored.domains] == [
            "to\ufffdalder_aerial",
            "to\ufffdbirch_aerial",
        ]
        assert stored.domains == scores.domains
    names = {example.name for example in stored.domains[0].examples}
    picks = {each.name: {"best": sorted(names)[0]} for each in stored.domains}
    again = evaluate(Catalog(frame), trained, picks=picks)
    assert [each.name for each in again.domains[0].examples] == sorted(names)[:1]


def test_a_picture_that_cannot_be_removed_does_not_end_an_evaluation(
    evaluate: Evaluate, tmp_path: Path
) -> None:
    """The scores are complete; here, a picture has a name that no file can have."""
    evaluate(domains=["alder_aerial"])
    file = tmp_path / "evaluation" / "scores.json"
    scores = json.loads(file.read_text())
    scores["domains"][0]["examples"][0]["image"] = f"examples/{'a' * 300}.png"
    file.write_text(json.dumps(scores))
    written = evaluate(domains=["alder_aerial"])
    assert read_scores(file.parent).domains == written.domains
