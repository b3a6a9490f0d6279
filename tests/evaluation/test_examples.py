"""Pictures of a domain: the best, the median and the worst image, as they were scored."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import shapely

from rhm.data import Catalog
from rhm.evaluation.examples import choose_examples, pictures_of, save_examples
from rhm.evaluation.scores import Shift
from rhm.evaluation.tile_scores import TileScores, count, see
from rhm.inference.tiling.stream import Tiling
from rhm.models.build import SegmentationModel
from tests.evaluation.test_score_files import DOMAIN

TILING = Tiling(tile=96, overlap=0)


@pytest.fixture(scope="module")
def scored(bright: SegmentationModel, catalog_path: Path) -> list[TileScores]:
    tiles = Catalog.load(catalog_path).select(domains=["alder_aerial"]).tiles
    return [count(see(bright, tile, shift=None, tiling=TILING), tile, 0.5) for tile in tiles]


def test_the_best_the_median_and_the_worst_are_shown(
    bright: SegmentationModel,
    scored: list[TileScores],
) -> None:
    examples = choose_examples(bright, scored, None, TILING)
    ious = sorted((each.pixels.iou for each in scored), reverse=True)
    assert [each.example.kind for each in examples] == ["best", "median", "worst"]
    assert [each.example.iou for each in examples] == [ious[0], ious[len(ious) // 2], ious[-1]]
    assert len({each.example.image for each in examples}) == 3


def test_an_image_is_shown_once_where_there_are_few(
    bright: SegmentationModel,
    scored: list[TileScores],
) -> None:
    (only,) = choose_examples(bright, scored[:1], None, TILING)
    assert only.example.kind == "best"
    two = [each.example for each in choose_examples(bright, scored[:2], None, TILING)]
    assert [each.kind for each in two] == ["best", "worst"]
    assert two[0].iou is not None
    assert two[1].iou is not None
    assert two[0].iou > two[1].iou
    assert choose_examples(bright, [], None, TILING) == []


def test_picks_are_shown_as_what_they_were_picked_for(
    bright: SegmentationModel,
    scored: list[TileScores],
) -> None:
    picks = {"worst": scored[0].tile.name, "best": "not there"}
    (picture,) = choose_examples(bright, scored, None, TILING, picks=picks)
    assert (picture.example.kind, picture.example.name) == ("worst", scored[0].tile.name)
    assert picture.example.picked
    own = choose_examples(bright, scored, None, TILING)
    assert not any(each.example.picked for each in own)


def test_images_of_one_name_are_told_apart_by_their_folders(
    bright: SegmentationModel, scored: list[TileScores], tmp_path: Path
) -> None:
    """Each model that is scored together shows the same ones, and not whatever has the name."""
    alike = []
    for folder, scores in zip("ab", scored, strict=False):
        image = tmp_path / folder / "image.tif"
        image.parent.mkdir()
        image.symlink_to(scores.tile.image)
        alike.append(replace(scores, tile=replace(scores.tile, image=image)))
    found = {each.example.name: each for each in choose_examples(bright, alike, None, TILING)}
    assert set(found) == {"a/image", "b/image"}
    for name, picture in found.items():
        picks = {picture.example.kind: name}
        (again,) = choose_examples(bright, alike[::-1], None, TILING, picks=picks)
        assert again.example.iou == picture.example.iou
        np.testing.assert_array_equal(again.pixels, picture.pixels)


def test_images_that_only_their_suffixes_tell_apart_are_two(
    bright: SegmentationModel, scored: list[TileScores], tmp_path: Path
) -> None:
    alike = []
    for suffix, scores in zip(("tif", "png"), scored, strict=False):
        image = tmp_path / f"image.{suffix}"
        image.symlink_to(scores.tile.image)
        alike.append(replace(scores, tile=replace(scores.tile, image=image)))
    found = choose_examples(bright, alike, None, TILING)
    assert sorted(each.example.name for each in found) == ["image.png", "image.tif"]


def test_a_picture_is_the_image_and_its_outlines_lie_in_it(
    bright: SegmentationModel,
    scored: list[TileScores],
    tmp_path: Path,
) -> None:
    picture = choose_examples(bright, scored, None, TILING)[0]
    picture.save(tmp_path)
    example = picture.example
    written = cv2.imread(str(tmp_path / example.image))
    assert written is not None
    np.testing.assert_array_equal(written[..., ::-1], picture.pixels)
    tile = next(each.tile for each in scored if each.tile.name == example.name)
    seen = see(bright, tile, shift=None, tiling=TILING)
    np.testing.assert_array_equal(picture.pixels, seen.pixels)
    drawn = [shapely.Polygon(rings[0], rings[1:]) for rings in example.truth]
    area = sum(each.area for each in drawn)
    assert area == pytest.approx(shapely.area(seen.true_objects).sum(), rel=0.05)
    assert (example.width, example.height) == (96, 96)


def test_names_of_domains_make_no_folders(
    bright: SegmentationModel,
    scored: list[TileScores],
) -> None:
    hostile = replace(scored[0], tile=replace(scored[0].tile, domain="../a b/<c>"))
    (picture,) = choose_examples(bright, [hostile], Shift("gamma", 1), TILING)
    folder, _, name = picture.example.image.partition("/")
    assert folder == "examples"
    assert "/" not in name
    assert "gamma" in name
    assert not set(name) & set("<> ")


def test_a_picture_never_replaces_another_file(
    bright: SegmentationModel, scored: list[TileScores], tmp_path: Path
) -> None:
    """Names that differ in case or by what is not a letter are one name on some file systems."""
    own = tmp_path / "examples" / "Alder_Aerial-best.png"
    own.parent.mkdir()
    own.write_text("mine")
    domains = ["alder_aerial", "alder aerial"]
    tiles = [replace(scored[0], tile=replace(scored[0].tile, domain=name)) for name in domains]
    pictures = [choose_examples(bright, [tile], None, TILING)[0] for tile in tiles]
    saved = save_examples(pictures, tmp_path)
    assert [example.image for example in saved] == [
        "examples/alder_aerial-best-2.png",
        "examples/alder_aerial-best-3.png",
    ]
    assert all((tmp_path / example.image).is_file() for example in saved)
    assert own.read_text() == "mine"
    again = save_examples(pictures[:1], tmp_path)
    assert again[0].image == "examples/alder_aerial-best-4.png"


def test_only_pictures_of_the_folder_are_those_of_scores() -> None:
    names = ["examples/a-best.png", "../a.png", "examples/../a.png", "/etc/a.png"]
    examples = tuple(replace(DOMAIN.examples[0], image=name) for name in names)
    assert pictures_of([replace(DOMAIN, examples=examples)]) == {"examples/a-best.png"}
