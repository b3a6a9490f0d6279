"""The images to score: those asked for, or a line that says which others; checked beforehand."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rhm.data.catalog import Catalog
from rhm.errors import CatalogError, ConfigError, ModelFileError
from rhm.evaluation.image_choice import (
    amount_of_work,
    check_choice,
    check_images,
    images_to_score,
    nothing_to_score,
    pixels_of_work,
    told_once,
    with_other_splits,
    work_of,
)
from rhm.evaluation.scores import Shift
from rhm.models.spec import ModelSpec

SPEC = ModelSpec("unet", "test_efficientnet", 3, sources=("alder_aerial",), gsd_m=1.0)
TEST: dict[str, Any] = {"split": "test", "domains": None}


@pytest.fixture(scope="module")
def catalog(catalog_path: Path) -> Catalog:
    return Catalog.load(catalog_path)


def without(catalog: Catalog, split: str, *domains: str) -> Catalog:
    """A catalog in which a split has no image of some domains."""
    frame = catalog.frame.copy()
    frame.loc[frame["domain"].isin(domains) & (frame["split"] == split), "split"] = "train"
    return Catalog(frame)


def test_domains_have_their_images_of_the_split(catalog: Catalog) -> None:
    found = images_to_score(catalog, SPEC, split="test")
    assert [each.domain for each in found] == catalog.domains
    for each in found:
        assert each.split == "test"
        of_split = catalog.select(domains=[each.domain], split="test", labelled=True)
        assert each.tiles == of_split.tiles
    (whole,) = images_to_score(catalog, SPEC, split=None, domains=["alder_aerial"])
    assert (whole.split, len(whole.tiles)) == ("all", 6)


def test_unseen_domains_without_the_split_are_scored_whole_and_say_so(catalog: Catalog) -> None:
    uneven = without(catalog, "test", "alder_aerial", "birch_aerial")
    found = {each.domain: each for each in images_to_score(uneven, SPEC, split="test")}
    assert "alder_aerial" not in found
    assert (found["birch_aerial"].split, len(found["birch_aerial"].tiles)) == ("all", 6)
    assert found["birch_satellite"].split == "test"
    assert check_choice(uneven, SPEC, **TEST, file="c.parquet") == [
        "c.parquet: alder_aerial has no labelled image in split 'test', and is left out, because "
        "the model was trained on this domain",
        "c.parquet: birch_aerial has no labelled image in split 'test', so all 6 are used",
    ]
    assert check_choice(uneven, SPEC, split=None, domains=None) == []


def test_a_domain_without_labels_is_told_only_if_it_was_named(catalog: Catalog) -> None:
    frame = catalog.frame.copy()
    frame.loc[frame["domain"] == "birch_aerial", "label"] = ""
    bare = Catalog(frame)
    assert check_choice(bare, SPEC, **TEST) == []
    (note,) = check_choice(bare, SPEC, split="test", domains=["alder_aerial", "birch_aerial"])
    assert note == "the catalog: birch_aerial has no labelled image, and is left out"


def test_a_model_that_does_not_know_its_resolution_is_told_of_images_that_do(
    catalog: Catalog,
) -> None:
    unaware = replace(SPEC, gsd_m=None)
    (note,) = check_choice(catalog, unaware, split="test", domains=["birch_aerial"])
    assert note == (
        "the resolution that the model expects is unknown, so the images of birch_aerial are not "
        "brought to it: check that they have that of the training imagery, or train with data.gsd_m"
    )
    assert check_choice(Catalog(catalog.frame.assign(gsd_m=np.nan)), unaware, **TEST) == []


def test_the_amount_of_work_counts_images_once_for_each_shift(catalog: Catalog) -> None:
    asked: dict[str, Any] = {"split": None, "domains": None}
    plain = work_of(catalog, SPEC, **asked, shifts=[])
    assert amount_of_work(plain) == len(catalog) == 24
    shifted = work_of(catalog, SPEC, **asked, shifts=[Shift("gamma", 1), Shift("gamma", 2)])
    assert amount_of_work(shifted) == 24 + 2 * 6
    aerial = [each for each in plain if each[0].domain == "alder_aerial"]
    assert pixels_of_work(aerial, replace(SPEC, gsd_m=None)) == 6 * 96 * 96
    gsd_m = aerial[0][0].tiles[0].gsd_m
    assert gsd_m is not None
    halved = replace(SPEC, gsd_m=2 * gsd_m)
    assert pixels_of_work(aerial, halved) == 6 * 48 * 48


def test_sources_that_a_shift_cannot_reach_are_told(catalog: Catalog) -> None:
    shifted: dict[str, Any] = {"split": None, "domains": None, "shifts": [Shift("gamma", 0)]}
    assert check_choice(catalog, SPEC, **shifted) == []
    spec = replace(SPEC, sources=("alder_aerial", "atlantis"))
    (note,) = check_choice(catalog, spec, **shifted, file="c.parquet")
    assert "no labelled image of atlantis is scored in c.parquet" in note
    shifted["domains"] = ["birch_aerial"]
    with pytest.raises(ConfigError, match=r"alder_aerial, atlantis is scored.*leave out --shift"):
        check_choice(catalog, spec, **shifted)


def test_nothing_to_score_is_one_line(catalog: Catalog) -> None:
    bare = Catalog(catalog.frame.assign(label=""))
    with pytest.raises(CatalogError, match=r"c\.parquet has no labelled image in split 'test' to"):
        check_choice(bare, SPEC, **TEST, file="c.parquet")
    assert "labelled image to evaluate" in str(nothing_to_score(None, "c.parquet"))


def test_images_are_checked_by_what_the_catalog_says(catalog: Catalog, tmp_path: Path) -> None:
    images = images_to_score(catalog, SPEC, split="test")
    check_images(images, SPEC)
    with pytest.raises(ModelFileError, match=r"tiny takes 5 bands, and .* has 3: choose other do"):
        check_images(images, replace(SPEC, bands=5), model="tiny")
    first, second = images[:2]
    lost = [replace(tile, label=tmp_path / "lost.png") for tile in first.tiles]
    gone = [replace(tile, image=tmp_path / "gone.tif") for tile in second.tiles[:1]]
    missing = [replace(first, tiles=lost), replace(second, tiles=gone)]
    with pytest.raises(CatalogError, match=rf"lost\.png, and {len(lost)} more that the catalog"):
        check_images(missing, SPEC)
    archived = replace(first.tiles[0], image=Path("/vsizip/a.zip/b.tif"))
    check_images([replace(first, tiles=[archived])], SPEC)


def test_another_split_of_the_training_domains_is_noticed(catalog: Catalog) -> None:
    images = images_to_score(catalog, SPEC, split="test")
    assert with_other_splits(catalog, SPEC, images) == []  # the model records none
    home = catalog.select(domains=["alder_aerial"])
    for trained in (catalog, home):
        same = replace(SPEC, split_hash=trained.split_hash())
        assert with_other_splits(catalog, same, images) == []
    again = Catalog(home.frame.assign(split="")).assign_splits({"test": 0.4}, seed=9)
    other = replace(SPEC, split_hash=again.split_hash())
    assert again.split_hash() != home.split_hash()
    assert with_other_splits(catalog, other, images) == ["alder_aerial"]
    (note,) = check_choice(catalog, other, **TEST)
    assert catalog.split_hash() in note
    assert "may have been trained on images of alder_aerial in split 'test'" in note
    # Whoever asks for all images, or for those of the training, knows what is among them.
    for split in (None, "train"):
        chosen = images_to_score(catalog, other, split=split)
        assert with_other_splits(catalog, other, chosen) == []
    unseen = images_to_score(catalog, other, split="test", domains=["birch_aerial"])
    assert with_other_splits(catalog, other, unseen) == []


def test_the_splits_of_each_domain_are_known(catalog: Catalog) -> None:
    images = images_to_score(catalog, SPEC, split="test")
    home = catalog.select(domains=["alder_aerial"])
    again = Catalog(home.frame.assign(split="")).assign_splits({"test": 0.4}, seed=9)
    for trained, noticed in ((home, []), (again, ["alder_aerial"])):
        # As for an adapted model: the catalog that was seen last is another one.
        adapted = replace(
            SPEC, split_hash="0123", source_splits=trained.split_hashes(["alder_aerial"])
        )
        assert with_other_splits(catalog, adapted, images) == noticed


def test_notes_on_all_models_name_none() -> None:
    notes = [("a", ["x", "y", "x"]), ("b", ["x"]), ("c", ["z", "x"])]
    assert told_once(notes) == ["x", "a: y", "c: z"]
    assert told_once([("a", [])]) == []
