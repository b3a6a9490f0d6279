"""The commands of histogram banks."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from rhm.colour.histogram_bank import HistogramBank
from tests.data.imagery import noise, write_raster

Rhm = Callable[..., tuple[int, str, str]]


def test_banks_are_built_added_to_and_shown(rhm: Rhm, world: Path, tmp_path: Path) -> None:
    first, both = tmp_path / "first.bank", tmp_path / "both.bank"
    code, printed, _ = rhm("bank", "build", world / "birch_satellite" / "images", "-o", first)
    assert code == 0
    assert "6 images, 3 bands" in printed
    images = [world / town / "images" for town in ("birch_aerial", "alder_aerial")]
    words = ["bank", "build", *images, "-o", both, "--add", first, "--shift", "gamma", "--json"]
    code, printed, _ = rhm(*words)
    assert code == 0
    assert json.loads(printed)["images"] == 18
    code, printed, _ = rhm("bank", "show", both)
    assert code == 0
    lines = printed.splitlines()
    assert lines[0] == "18 images, 3 bands, 6 spectra"
    drawn = [line for line in lines if "█" in line]
    assert len(drawn) == 9
    for domain, dtype in (
        ("alder_aerial", "uint8"),
        ("birch_aerial", "uint8"),
        ("birch_satellite", "uint16"),
    ):
        (title,) = [line for line in lines if line.startswith(f"{domain}: ")]
        assert title.endswith(f"6 images, {6 * 96 * 96} pixels of {dtype}")
    axes = [line for line in lines if line.startswith("band ")]
    assert axes[0] == axes[1] != axes[2]
    code, printed, _ = rhm("bank", "show", both, "--json")
    shown = json.loads(printed)
    assert len(shown["names"]) == 18
    assert [(each["domain"], each["images"]) for each in shown["domains"]] == [
        ("alder_aerial", 6),
        ("birch_aerial", 6),
        ("birch_satellite", 6),
    ]
    (distance,) = shown["distances"]
    assert (distance["domain"], distance["other"]) == ("alder_aerial", "birch_aerial")
    assert f"alder_aerial   birch_aerial  uint8  {distance['distance'][0]:.3f}" in lines[-1]


def test_a_bank_keeps_spectra_unless_it_is_told_not_to(
    rhm: Rhm, world: Path, tmp_path: Path
) -> None:
    images, path = world / "birch_satellite" / "images", tmp_path / "spectra.bank"
    code, printed, _ = rhm("bank", "build", images, "-o", path, "--gsd", 1.0)
    assert (code, "6 images, 3 bands, 6 spectra" in printed) == (0, True)
    plain = tmp_path / "plain.bank"
    code, printed, _ = rhm("bank", "build", images, "-o", plain, "--no-spectrum")
    assert (code, "6 images, 3 bands in" in printed) == (0, True)
    # Three bands of 25 x 13 amplitudes of four bytes, of windows of three sizes.
    assert path.stat().st_size - plain.stat().st_size < 6 * 3 * 3 * 25 * 13 * 4 + 2000
    code, printed, _ = rhm("bank", "show", path, "--json")
    assert json.loads(printed)["spectra"] == 6
    assert {each.gsd_m for each in HistogramBank.load(path).spectra if each is not None} == {1.0}
    code, _, told = rhm("bank", "build", images, "-o", plain, "--no-spectrum", "--gsd", 1.0)
    assert (code, "--gsd applies to spectra" in told) == (2, True)
    code, _, told = rhm("bank", "build", images, "-o", plain, "--gsd", "inf")
    assert (code, "Invalid value for '--gsd'" in told) == (2, True)
    # Spectra of shifted images are not measured.
    code, printed, _ = rhm("bank", "build", images, "-o", plain, "--shift", "gamma")
    assert (code, "6 images, 3 bands in" in printed) == (0, True)
    code, _, told = rhm("bank", "build", images, "-o", plain, "--shift", "gamma", "--spectrum")
    assert (code, "leave out the shift" in told) == (2, True)


def test_images_that_cannot_be_read_at_a_resolution_are_noted(rhm: Rhm, tmp_path: Path) -> None:
    write_raster(tmp_path / "a" / "placed.tif", noise(60, 60))
    write_raster(tmp_path / "a" / "plain.tif", noise(60, 60), crs=None)
    first, words = tmp_path / "first.bank", ["--gsd", 1.0]
    code, _, told = rhm("bank", "build", tmp_path / "a", "-o", first, *words)
    assert code == 0
    assert told == (
        "1 of 2 images do not say their metres per pixel, and their spectra are those of their own "
        "pixels, not of 1 m\n"
    )
    placed, both = tmp_path / "a" / "placed.tif", tmp_path / "both.bank"
    assert rhm("bank", "build", placed, "-o", both, "--add", first, *words)[2] == ""
    assert rhm("bank", "build", tmp_path / "a", "-o", first)[2] == ""


def test_images_without_data_are_left_out_with_a_note(rhm: Rhm, tmp_path: Path) -> None:
    for name, pixels in (("a", noise(40, 40)), ("b", np.zeros((40, 40, 3), np.uint8))):
        write_raster(tmp_path / f"{name}.tif", pixels, nodata=0)
    path = tmp_path / "a.bank"
    both = tmp_path / "a.tif", tmp_path / "b.tif"
    code, _, told = rhm("bank", "build", *both, "-o", path)
    assert (code, told) == (0, "1 image without a valid pixel left out\n")
    assert len(HistogramBank.load(path)) == 1
    more = "--add", path, "-o", tmp_path / "more.bank"
    assert rhm("bank", "build", tmp_path / "a.tif", *more)[2] == ""


def test_a_bank_is_the_same_for_any_number_of_workers(
    rhm: Rhm, world: Path, tmp_path: Path
) -> None:
    images = world / "birch_satellite" / "images"
    for name, words in (
        ("a", ["--workers", 1]),
        ("b", ["--workers", 3]),
        ("c", ["--decimated"]),
        ("d", []),
    ):
        assert rhm("bank", "build", images, "-o", tmp_path / f"{name}.bank", *words)[0] == 0
    # Images of fewer pixels than a decimated one may have are counted whole.
    assert len({path.read_bytes() for path in tmp_path.iterdir()}) == 1


def flat_bank(path: Path, values: dict[str, int], *, bands: int = 1, dtype: str = "uint8") -> Path:
    """Write a bank of images of one value each, by their names."""
    from rhm.colour.histogram_bank import HistogramBank

    images = (np.full((4, 5, bands), value, dtype=dtype) for value in values.values())
    HistogramBank.from_images(images, names=list(values)).save(path)
    return path


def test_distances_of_banks_are_between_domains(rhm: Rhm, tmp_path: Path) -> None:
    ours = flat_bank(tmp_path / "a.bank", {"x/1": 10, "x/2": 20, "y/1": 50}, bands=2)
    theirs = flat_bank(tmp_path / "b.bank", {"z/1": 0, "one": 55}, bands=2)
    code, printed, _ = rhm("bank", "show", ours, "--against", theirs, "--json")
    assert code == 0
    found = {(d["domain"], d["other"]): d["distance"] for d in json.loads(printed)["distances"]}
    assert found == {
        ("x", ""): [40.0, 40.0],
        ("x", "z"): [15.0, 15.0],
        ("y", ""): [5.0, 5.0],
        ("y", "z"): [50.0, 50.0],
    }
    code, printed, _ = rhm("bank", "show", ours, "--against", theirs)
    assert printed.splitlines()[-5:][::4] == [
        "distance from  to         dtype  band 1  band 2",
        "y              z          uint8  50.000  50.000",
    ]
    deep = flat_bank(tmp_path / "c.bank", {"z/1": 0}, bands=2, dtype="uint16")
    gray = flat_bank(tmp_path / "d.bank", {"z/1": 0})
    for other, told in ((deep, "imagery cannot be compared"), (gray, "2 bands cannot be compared")):
        code, printed, err = rhm("bank", "show", ours, "--against", other)
        assert (code, printed, err.count("\n")) == (2, "", 1)
        assert told in err


def drawings(printed: str) -> list[str]:
    """The drawn bands, each as wide as its axis."""
    found, start = [], 0
    for line in printed.splitlines():
        if line.startswith("band "):
            start = line.index("98%") + 5
            assert len(line) == start + 48
        elif start and line.strip()[:1].isdigit():
            found.append(line[start:].ljust(48))
    return found


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32"])
def test_a_drawing_shows_where_the_pixels_are(rhm: Rhm, tmp_path: Path, dtype: str) -> None:
    from rhm.colour.histogram_bank import HistogramBank

    low, high = (-0.5, 0.25) if dtype == "float32" else (50, 150)
    ramp = np.linspace(low, high, 96 * 100).reshape(96, 100).astype(dtype)
    left, middle = ramp[:48], np.full((2, 2), (low + high) / 2, dtype=dtype)
    images = [ramp, left, middle]
    bank = HistogramBank.from_images(images, names=["all/1", "left/1", "middle/1"])
    bank.save(tmp_path / "a.bank")
    code, printed, _ = rhm("bank", "show", tmp_path / "a.bank")
    assert code == 0
    everything, half, one = drawings(printed)
    assert set(everything) <= set("▆▇█")
    assert set(half[:23]) <= set("▆▇█")
    assert set(half[25:]) == {" "}
    assert 1 <= len(one.strip()) <= 2
    assert one.index("█") in (23, 24)


def test_what_a_bank_says_of_itself_cannot_steer_the_terminal(rhm: Rhm, tmp_path: Path) -> None:
    hostile = "\x1b[31m\x07\u202e\x9b2J\ntown/1"
    bank = flat_bank(tmp_path / "a.bank", {hostile: 5, "b/2": 9})
    code, printed, _ = rhm("bank", "show", bank)
    assert code == 0
    assert all(line.isprintable() for line in printed.splitlines())
    assert "town: 1 image, 20 pixels" in printed
    assert printed.startswith("2 images, 1 band\n")
    code, printed, _ = rhm("bank", "show", bank, "--json")
    assert all(line.isprintable() for line in printed.splitlines())
    assert json.loads(printed)["names"] == [hostile, "b/2"]


def test_a_terminal_without_block_characters_gets_plain_ones(tmp_path: Path) -> None:
    bank = flat_bank(tmp_path / "a.bank", {"a/1": 5, "b/2": 9})
    done = subprocess.run(
        [sys.executable, "-m", "rhm.cli.main", "bank", "show", bank],
        capture_output=True,
        env=dict(os.environ) | {"PYTHONIOENCODING": "latin-1"},
    )
    assert done.returncode == 0, done.stderr
    assert b"@@@" in done.stdout


def test_many_domains_are_compared_only_when_asked(rhm: Rhm, tmp_path: Path) -> None:
    names = {f"town{index}/1": index for index in range(13)}
    many = flat_bank(tmp_path / "many.bank", names)
    code, printed, _ = rhm("bank", "show", many, "--json")
    assert code == 0
    assert json.loads(printed)["distances"] == []
    few = flat_bank(tmp_path / "few.bank", dict(list(names.items())[:12]))
    assert len(json.loads(rhm("bank", "show", few, "--json")[1])["distances"]) == 66
    code, printed, _ = rhm("bank", "show", many, "--against", few, "--json")
    assert len(json.loads(printed)["distances"]) == 13 * 12


def test_the_domain_is_that_of_catalogs_or_the_folder_or_as_named(rhm: Rhm, tmp_path: Path) -> None:
    official = tmp_path / "AOI_5_Khartoum_Test_public" / "RGB-PanSharpen"
    official.mkdir(parents=True)
    write_raster(official / "RGB-PanSharpen_AOI_5_Khartoum_img7.tif", noise(20, 20))
    own = tmp_path / "kampala" / "images"
    own.mkdir(parents=True)
    write_raster(own / "a.tif", noise(20, 20))

    def domains(*words: object) -> set[str]:
        code, _, err = rhm("bank", "build", *words, "-o", tmp_path / "x.bank")
        assert code == 0, err
        return set(HistogramBank.load(tmp_path / "x.bank").domains)

    assert domains(official, own) == {"AOI_5_Khartoum", "kampala"}
    assert domains(official, "--name", "khartoum") == {"khartoum"}


def test_one_is_not_told_in_the_plural(rhm: Rhm, tmp_path: Path) -> None:
    image = write_raster(tmp_path / "a.tif", noise(200, 200, 1))
    code, printed, _ = rhm("bank", "build", image, "-o", tmp_path / "x.bank")
    assert (code, printed.startswith("1 image, 1 band, 1 spectrum in ")) == (0, True)


@pytest.fixture
def unreadable(tmp_path: Path) -> Path:
    """An image that fails as soon as it is counted."""
    path = tmp_path / "a.tif"
    path.write_bytes(b"not a raster")
    return path


def test_what_cannot_be_written_is_refused_before_images_are_read(
    rhm: Rhm, tmp_path: Path, unreadable: Path
) -> None:
    mine, nothing = tmp_path / "mine.txt", tmp_path / "pipe"
    mine.write_text("mine")
    os.mkfifo(nothing)
    for output, told in (
        (mine, "exists and is not a histogram bank"),
        (nothing, "it is a pipe"),
        (unreadable, "exists and is not a histogram bank"),
        (tmp_path, "it is a folder"),
        (mine / "x.bank", "cannot write"),
        (tmp_path / ("x" * 300), "cannot write"),
    ):
        code, printed, err = rhm("bank", "build", unreadable, "-o", output)
        assert (code, printed, err.count("\n")) == (2, "", 1)
        assert told in err
    assert mine.read_text() == "mine"
    words = ("bank", "build", unreadable, "-o", tmp_path / "x.bank")
    code, _, err = rhm(*words, "--name", "x" * 5000)
    assert (code, "has 5000 characters" in err) == (2, True)
    code, _, err = rhm(*words, "--shift", "hsv")
    assert (code, "choose affine, gamma, monotone" in err) == (2, True)
    code, _, err = rhm(*words)
    assert (code, "a.tif" in err) == (2, True)


def test_an_earlier_bank_is_replaced_and_may_be_added_to_itself(rhm: Rhm, tmp_path: Path) -> None:
    path = tmp_path / "x.bank"
    image = write_raster(tmp_path / "a.tif", noise(20, 20))
    for words in ([], [], ["--add", path]):
        assert rhm("bank", "build", image, "-o", path, *words)[0] == 0
    assert len(HistogramBank.load(path)) == 2


def test_the_help_says_what_is_counted_and_offers_no_shift_that_fails(rhm: Rhm) -> None:
    code, printed, _ = rhm("bank", "build", "--help")
    words = " ".join(printed.replace("│", " ").split())
    assert code == 0
    assert "16 million pixels" in words
    assert "affine, gamma or monotone" in words
    assert "hsv" not in words


def test_black_is_nodata_in_catalogs_too(rhm: Rhm, tmp_path: Path) -> None:
    """Oracle: the bank of the same images without their black pixels."""
    pixels = noise(40, 40)
    pixels[:, :20] = 0
    write_raster(tmp_path / "town" / "images" / "a.tif", pixels)
    catalog = tmp_path / "town.parquet"
    assert rhm("data", "index", "folder", tmp_path / "town", "-o", catalog)[0] == 0
    counts = {}
    images = tmp_path / "town" / "images"
    for source in (catalog, images):
        for words in ([], ["--black-is-nodata"]):
            given = (*words, "--no-spectrum", "-o", tmp_path / "x.bank")
            code, _, err = rhm("bank", "build", source, *given)
            assert code == 0, err
            (histogram,) = HistogramBank.load(tmp_path / "x.bank").by_domain.values()
            counts[source, bool(words)] = histogram.counts.sum()
    assert counts[catalog, True] == counts[images, True] < counts[catalog, False]


def test_a_name_for_catalogs_is_refused(rhm: Rhm, catalog_path: Path, tmp_path: Path) -> None:
    words = ["bank", "build", catalog_path, "--name", "town", "-o", tmp_path / "x.bank"]
    code, printed, err = rhm(*words)
    assert (code, printed, err.count("\n")) == (2, "", 1)
    assert "catalogs name their domains themselves" in err
