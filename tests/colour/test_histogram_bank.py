"""Laws of the histogram bank and of its file; oracle of distance: scipy."""

import io
import json
import os
import pickle
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import wasserstein_distance

from rhm.colour.histogram import Histogram
from rhm.colour.histogram_bank import SAMPLING, HistogramBank
from rhm.colour.lookup import PixelMap
from rhm.colour.matching import match_histograms
from rhm.colour.packing import FORMAT
from rhm.errors import BankError, OutputError

Image = NDArray[Any]


def imagery(*, bands: int = 3, seed: int = 0) -> list[Image]:
    """Images of both types and several sizes."""
    rng = np.random.default_rng(seed)
    return [
        rng.integers(20, 230, (9, 11, bands)).astype(np.uint8),
        rng.integers(0, 2047, (8, 5, bands)).astype(np.uint16),
        rng.integers(100, 130, (14, 3, bands)).astype(np.uint8),
    ]


def assert_same(first: HistogramBank, second: HistogramBank) -> None:
    assert first.names == second.names
    assert len(first) == len(second)
    np.testing.assert_array_equal(first.weights, second.weights, strict=True)
    for one, two in zip(first.histograms, second.histograms, strict=True):
        assert one.dtype == two.dtype
        np.testing.assert_array_equal(one.counts, two.counts, strict=True)


def refusal(path: Path) -> str:
    """The one line with which loading ``path`` is refused."""
    with pytest.raises(BankError) as caught:
        HistogramBank.load(path)
    message = str(caught.value)
    assert str(path) in message
    assert "rhm bank build" in message
    assert "\n" not in message
    return message


@pytest.mark.parametrize("bands", [1, 3, 8])
def test_a_saved_bank_loads_as_it_was(tmp_path: Path, bands: int) -> None:
    bank = HistogramBank.from_images(imagery(bands=bands), names=["a", "b", "Łódź 東京"])
    bank.save(tmp_path / "new" / "target.bank")
    loaded = HistogramBank.load(tmp_path / "new" / "target.bank")
    assert_same(loaded, bank)
    assert loaded.bands == bands
    assert [dtype.name for dtype in loaded.dtypes] == ["uint8", "uint16"]
    assert os.listdir(tmp_path / "new") == ["target.bank"]


def test_equal_banks_make_equal_files(tmp_path: Path) -> None:
    for name in ("a.bank", "b.bank"):
        HistogramBank.from_images(imagery()).save(tmp_path / name)
    HistogramBank.load(tmp_path / "a.bank").save(tmp_path / "c.bank")
    assert len({(tmp_path / f"{name}.bank").read_bytes() for name in "abc"}) == 1
    with zipfile.ZipFile(tmp_path / "a.bank") as archive:
        assert {member.date_time[0] for member in archive.infolist()} == {1980}


@given(st.lists(st.floats(1e-100, 1e100) | st.just(0.0), min_size=3, max_size=3))
def test_a_bank_survives_json_and_pickle(weights: list[float]) -> None:
    # One of each type needs a chance.
    weights[1:] = [each or 1.0 for each in weights[1:]]
    entries = HistogramBank.from_images(imagery()).entries
    bank = HistogramBank(entries, ["a/0", "a/1", "b/2"], weights=np.array(weights))
    assert_same(HistogramBank.from_dict(json.loads(json.dumps(bank.to_dict()))), bank)
    assert bank.pooled
    assert_same(pickle.loads(pickle.dumps(bank)), bank)  # noqa: S301


def test_weights_survive_the_file(tmp_path: Path) -> None:
    bank = HistogramBank.from_images(imagery(), names=["a/0", "a/1", "b/2"]).weighted("domain")
    assert set(bank.weights) == {0.5, 1.0}
    bank.save(tmp_path / "target.bank")
    assert_same(HistogramBank.load(tmp_path / "target.bank"), bank)


@pytest.mark.parametrize("dtype", [np.int16, np.float32])
def test_banks_of_signed_and_float_imagery_are_matched_to(tmp_path: Path, dtype: type) -> None:
    rng = np.random.default_rng(0)
    scale = 1 / 1024 if dtype is np.float32 else 1
    source, target = (rng.normal(at, 80, (40, 50, 3)).round() * scale for at in (-300, 200))
    image: Image = source.astype(dtype)
    wanted: Image = target.astype(dtype)
    HistogramBank.from_images([wanted]).save(tmp_path / "target.bank")
    bank = HistogramBank.load(tmp_path / "target.bank")
    drawn = bank.sample(dtype=np.dtype(dtype), rng=rng)
    matched = PixelMap.matching(Histogram.of(image), drawn).apply(image)
    # These floats are exact in half precision, so that no bin holds two of them.
    np.testing.assert_allclose(matched, match_histograms(image, wanted), rtol=1e-6)
    np.testing.assert_allclose(
        bank.distance(Histogram.of(image)),
        [wasserstein_distance(wanted[..., b].ravel(), image[..., b].ravel()) for b in range(3)],
        rtol=1e-9,
    )


def test_images_are_taken_one_at_a_time_and_blank_ones_left_out() -> None:
    images = imagery()
    blank = np.zeros((4, 4, 3), dtype=np.uint8)
    stream = iter([images[0], blank, images[2]])
    bank = HistogramBank.from_images(stream, nodata=0, names=["a", "blank", "c"])
    assert bank.names == ("a", "c")
    assert bank.histograms[1].pixels == 14 * 3
    with pytest.raises(BankError, match="at least one image"):
        HistogramBank.from_images([blank], nodata=0)
    with pytest.raises(BankError, match="at least one image"):
        HistogramBank.from_images([])


@pytest.mark.parametrize("names", [["a"], ["a", "b", "c", "d"]])
def test_as_many_names_as_images(names: list[str]) -> None:
    with pytest.raises(BankError, match=f"expected 3 names, one per image, got {len(names)}"):
        HistogramBank.from_images(imagery(), names=names)


@given(st.lists(st.integers(0, 99), min_size=1, max_size=4, unique=True), st.data())
def test_a_merged_bank_is_the_bank_of_all_images(seeds: list[int], data: st.DataObject) -> None:
    images = [image for seed in seeds for image in imagery(seed=seed)]
    names = [f"{chr(97 + number % 3)}/{number}" for number in range(len(images))]
    cut = data.draw(st.integers(1, len(images) - 1))
    first = HistogramBank.from_images(images[:cut], names=names[:cut])
    second = HistogramBank.from_images(images[cut:], names=names[cut:])
    union = HistogramBank.from_images(images, names=names)
    assert_same(first.merge(second), union)
    assert first.merge(second).summary() == union.summary()


def test_banks_merge_alike_through_files(tmp_path: Path) -> None:
    banks = [HistogramBank.from_images(imagery(seed=seed)) for seed in range(3)]
    for number, bank in enumerate(banks):
        bank.save(tmp_path / f"{number}.bank")
    loaded = [HistogramBank.load(tmp_path / f"{number}.bank") for number in range(3)]
    images = [image for seed in range(3) for image in imagery(seed=seed)]
    union = HistogramBank.from_images(images, names=["0", "1", "2"] * 3)
    assert_same(loaded[0].merge(loaded[1]).merge(loaded[2]), union)
    assert_same(loaded[0].merge(loaded[1].merge(loaded[2])), union)
    union.save(tmp_path / "union.bank")
    loaded[0].merge(loaded[1]).merge(loaded[2]).save(tmp_path / "merged.bank")
    assert (tmp_path / "union.bank").read_bytes() == (tmp_path / "merged.bank").read_bytes()


def test_banks_of_other_bands_do_not_merge() -> None:
    with pytest.raises(BankError, match="cannot share one bank"):
        HistogramBank.from_images(imagery()).merge(HistogramBank.from_images(imagery(bands=4)))


def test_merging_keeps_each_banks_chances_and_weighs_banks_by_their_images() -> None:
    first = flat_bank([1, 2], weights=[3.0, 1.0])
    second = flat_bank([3, 4, 5, 6], weights=[0.0, 1.0, 1.0, 2.0])
    weights = first.merge(second).weights
    np.testing.assert_allclose(weights / weights.sum(), np.array([6, 2, 0, 4, 4, 8]) / 24)


def flat_bank(
    values: Sequence[int],
    names: Sequence[str] | None = None,
    *,
    dtype: type = np.uint8,
    weights: Sequence[float] | None = None,
) -> HistogramBank:
    """A bank of images of one value each, which tell their draws apart."""
    images: list[Image] = [np.full((2, 3), value, dtype=dtype) for value in values]
    bank = HistogramBank.from_images(images, names=names)
    return bank if weights is None else HistogramBank(bank.entries, weights=np.array(weights))


def assert_drawn_in_proportion(bank: HistogramBank, chances: Sequence[float]) -> None:
    """Draw often; counts may stray from their expectation by five standard deviations."""
    rng = np.random.default_rng(0)
    draws = 4000
    values = [int(bank.sample(rng=rng).quantile(0.5)[0]) for _ in range(draws)]
    expected = draws * np.array(chances) / np.sum(chances)
    for entry, mean in zip(bank.histograms, expected, strict=True):
        count = values.count(int(entry.quantile(0.5)[0]))
        assert abs(count - mean) <= 5 * np.sqrt(mean * (1 - mean / draws))


def test_every_image_is_drawn_equally_often() -> None:
    bank = flat_bank([5, 9, 200, 30])
    assert_drawn_in_proportion(bank, [1, 1, 1, 1])
    assert_drawn_in_proportion(
        bank.weighted("distance", bank.histograms[0]).weighted("uniform"), [1] * 4
    )


def test_every_domain_is_drawn_equally_often() -> None:
    names = ["a/0", "a/1", "a/2", "b/0", "c/x/0", "c/x/1"]
    bank = flat_bank(range(6), names).weighted("domain")
    assert bank.domains == ("a", "a", "a", "b", "c/x", "c/x")
    assert_drawn_in_proportion(bank, [1 / 3, 1 / 3, 1 / 3, 1, 1 / 2, 1 / 2])


def test_images_are_drawn_in_proportion_to_their_distance() -> None:
    source = Histogram.of(np.full((4, 4), 10, dtype=np.uint8))
    bank = flat_bank([10, 11, 13, 30, 8]).weighted("distance", source)
    assert_drawn_in_proportion(bank, [0, 1, 3, 20, 2])
    alike = flat_bank([10, 10]).weighted("distance", source)
    assert alike.weights.tolist() == [1.0, 1.0]


def test_images_of_another_type_keep_the_mean_chance() -> None:
    source = Histogram.of(np.full((4, 4), 10, dtype=np.uint8))
    bank = flat_bank([11, 13]).merge(flat_bank([7], dtype=np.uint16))
    weights = bank.weighted("distance", source).weights
    np.testing.assert_allclose(weights / weights.sum(), np.array([0.5, 1.5, 1.0]) / 3)


def test_wrong_ways_to_sample_are_one_line() -> None:
    bank = HistogramBank.from_images(imagery()[:1])
    for told, by, reference in (
        (f"choose {', '.join(SAMPLING)}", "luck", None),
        ("needs the histogram of the source", "distance", None),
        ("cannot be compared with imagery of 3 x uint16", "distance", Histogram.of(imagery()[1])),
        (
            "cannot be compared with imagery of 4 x uint8",
            "distance",
            Histogram.of(imagery(bands=4)[0]),
        ),
    ):
        with pytest.raises(BankError, match=told):
            bank.weighted(by, reference)


@pytest.mark.parametrize(
    "weights",
    [
        [1.0],
        [[1.0, 1.0, 1.0]],
        [1.0, 1.0, np.nan],
        [1.0, np.inf, 1.0],
        [1.0, -0.1, 1.0],
        [0.0, 0.0, 0.0],
        [1.0, 0.0, 1.0],
    ],
)
def test_weights_that_are_no_chances_are_refused(weights: list[float]) -> None:
    # In the last case the one image of 16 bit can never be drawn.
    with pytest.raises(BankError, match="weight"):
        HistogramBank(HistogramBank.from_images(imagery()).entries, weights=np.array(weights))


def test_a_draw_can_be_of_one_type() -> None:
    bank = flat_bank([1, 2]).merge(flat_bank([3, 4], dtype=np.uint16))
    rng = np.random.default_rng(0)
    for dtype, values in ((np.uint8, {1, 2}), (np.uint16, {3, 4})):
        drawn = [bank.sample(dtype=np.dtype(dtype), rng=rng) for _ in range(50)]
        assert {int(each.quantile(0.5)[0]) for each in drawn} == values
        assert {each.dtype for each in drawn} == {np.dtype(dtype)}
    with pytest.raises(BankError, match="the bank holds uint8 images and no target for uint16"):
        flat_bank([1]).sample(dtype=np.dtype(np.uint16), rng=rng)


def test_the_same_seed_draws_the_same() -> None:
    bank = HistogramBank.from_images(imagery()).weighted("domain")
    first, second = np.random.default_rng(7), np.random.default_rng(7)
    for _ in range(20):
        one, other = bank.sample(rng=first), bank.sample(rng=second)
        np.testing.assert_array_equal(one.counts, other.counts)


def test_distance_is_scipys_to_all_pixels_of_the_type_together() -> None:
    first, deep, third = imagery()
    bank = HistogramBank.from_images([first, deep, third])
    image = np.random.default_rng(9).integers(0, 90, (6, 6, 3)).astype(np.uint8)
    together = np.concatenate([first.reshape(-1, 3), third.reshape(-1, 3)])
    expected = [wasserstein_distance(together[:, b], image[..., b].ravel()) for b in range(3)]
    np.testing.assert_allclose(bank.distance(Histogram.of(image)), expected, rtol=1e-9)
    assert not bank.distance(Histogram.of(deep)).any()


@pytest.mark.parametrize(("dtype", "high"), [(np.uint8, 256), (np.uint16, 2048)])
def test_distance_to_packed_images_is_scipys(tmp_path: Path, dtype: type, high: int) -> None:
    rng = np.random.default_rng(high)
    images: list[Image] = [rng.integers(0, high, (99, 98, 3)).astype(dtype) for _ in range(3)]
    one, two, image = images
    HistogramBank.from_images([one, two]).save(tmp_path / "target.bank")
    together = np.concatenate([one, two])
    expected = [
        wasserstein_distance(together[..., b].ravel(), image[..., b].ravel()) for b in range(3)
    ]
    bank = HistogramBank.load(tmp_path / "target.bank")
    np.testing.assert_allclose(bank.distance(Histogram.of(image)), expected, rtol=1e-9)


def test_there_is_no_distance_to_other_imagery() -> None:
    bank = HistogramBank.from_images(imagery()[:1])
    for other in (imagery()[1], imagery(bands=4)[0]):
        with pytest.raises(BankError, match="cannot be compared with"):
            bank.distance(Histogram.of(other))
    nothing = Histogram(np.zeros((3, 256), dtype=np.int64), np.dtype(np.uint8))
    with pytest.raises(BankError, match="cannot be compared with an image without valid pixels"):
        bank.distance(nothing)


def test_the_summary_describes_each_domain_and_type() -> None:
    first, deep, third = imagery()
    images = [first, deep, third, first]
    bank = HistogramBank.from_images(images, names=["town/a", "town/b", "town/c", "d"])
    summary = json.loads(json.dumps(bank.summary()))
    assert (summary["images"], summary["bands"]) == (4, 3)
    kinds = {(each["domain"], each["dtype"]): each for each in summary["domains"]}
    assert list(kinds) == [("", "uint8"), ("town", "uint16"), ("town", "uint8")]
    town = kinds["town", "uint8"]
    assert (town["images"], town["pixels"]) == (2, 9 * 11 + 14 * 3)
    together = np.concatenate([first.reshape(-1, 3), third.reshape(-1, 3)])
    expected = np.quantile(together, summary["quantile_shares"], axis=0, method="inverted_cdf").T
    np.testing.assert_array_equal(town["quantiles"], expected)
    assert kinds["town", "uint16"]["images"] == kinds["", "uint8"]["images"] == 1


def test_the_file_has_a_summary_for_people(tmp_path: Path) -> None:
    bank = HistogramBank.from_images(imagery(), names=["\x1b[31m/a", "b", "c"])
    bank.save(tmp_path / "target.bank")
    with zipfile.ZipFile(tmp_path / "target.bank") as archive:
        text = archive.read("summary.json").decode("ascii")
    assert json.loads(text) == bank.summary()
    assert text.replace("\n", "").isprintable()


def test_a_missing_file_says_how_to_make_one(tmp_path: Path) -> None:
    assert refusal(tmp_path / "none.bank").startswith("no histogram bank at")
    assert refusal(tmp_path).startswith("no histogram bank at")


@pytest.mark.parametrize(
    "content", [b"", b"\x00" * 500, b"not a bank", b"PK\x03\x04 or so", pickle.dumps([1, 2])]
)
def test_garbage_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "target.bank"
    path.write_bytes(content)
    assert "damaged or not a ZIP archive" in refusal(path)


def test_other_numpy_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "target.npy"
    np.save(path, np.zeros(3))
    refusal(path)
    np.savez(tmp_path / "other.npz", pixels=np.zeros(3))
    assert "format" in refusal(tmp_path / "other.npz")
    with zipfile.ZipFile(tmp_path / "text.zip", "w") as archive:
        archive.writestr("format.npy", "text")
    refusal(tmp_path / "text.zip")


def rewritten(
    path: Path, changes: Mapping[str, Image] = MappingProxyType({}), *, lacking: str = ""
) -> Path:
    """Write a bank, then the same file with some arrays changed, or one member missing."""
    HistogramBank.from_images(imagery()).save(path)
    with np.load(path) as archive:
        members = {name: archive[name] for name in archive.files}
    summary = members.pop("summary.json")
    arrays = {name: each for name, each in (members | dict(changes)).items() if name != lacking}
    with path.open("wb") as file:
        np.savez(file, **arrays)
    if lacking != "summary.json":
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr("summary.json", summary)
    return path


def test_other_versions_are_refused_with_what_to_do(tmp_path: Path) -> None:
    later = refusal(rewritten(tmp_path / "target.bank", {"format": np.array(FORMAT + 1)}))
    assert f"a later version of rhm (format {FORMAT + 1}, expected {FORMAT}): update rhm" in later
    earlier = refusal(rewritten(tmp_path / "target.bank", {"format": np.array(1)}, lacking="sizes"))
    assert f"an earlier version of rhm (format 1, expected {FORMAT})" in earlier
    values = HistogramBank.from_images(imagery()).to_dict()
    for version, told in ((FORMAT + 1, "a later version"), (1, "an earlier version")):
        with pytest.raises(BankError, match=told):
            HistogramBank.from_dict(values | {"format": version})
        with pytest.raises(BankError, match=told):
            HistogramBank.from_dict({"format": version})


MEMBERS = ("format", "bands", "names", "weights", "dtypes", "sizes", "steps", "counts")


@pytest.mark.parametrize("member", [*MEMBERS, "summary.json"])
def test_an_incomplete_file_is_refused(tmp_path: Path, member: str) -> None:
    told = "has no format" if member == "format" else f"lacks {member}"
    assert told in refusal(rewritten(tmp_path / "target.bank", lacking=member))


def first_of(member: str, value: int, *, dtype: str = "int64") -> Image:
    """The true array of ``imagery``'s bank, but for its first value."""
    true = HistogramBank.from_images(imagery())._arrays()[member].astype(dtype)
    true[0] = value
    return true


WRONG: dict[str, list[Any]] = {
    "format": ["2", 2.0, [2], np.inf],
    "bands": [0, -3, 3.0, 1, 9, 2**40, [3], "3"],
    "names": [5, [1, 2, 3], ["a"], ["a", "b", "c", "d"], [["a", "b", "c"]], "abc"],
    "weights": [
        [1.0, 1.0, np.nan],
        [1.0, np.inf, 1.0],
        [1.0, -1.0, 1.0],
        [0.0, 0.0, 0.0],
        [1.0, 1.0],
        [[1.0, 1.0, 1.0]],
        [1j, 1j, 1j],
        ["1", "1", "1"],
        1.0,
    ],
    "dtypes": [
        ["float64"] * 3,
        ["uint8"] * 3,
        ["uint8", "uint16"],
        ["\x1b[31m", "\n", "x" * 9999],
        ["(9,)u1"] * 3,
        [],
        [8, 16, 8],
    ],
    "sizes": [
        first_of("sizes", 0),
        first_of("sizes", -1),
        first_of("sizes", 1),
        first_of("sizes", 65537),
        np.array([2**61] * 8 + [len(first_of("steps", 0))]),
        first_of("sizes", 2**62),
        first_of("sizes", 9)[:-1],
        first_of("sizes", 9)[None],
        first_of("sizes", 9).astype(np.float64),
        [],
    ],
    "steps": [
        first_of("steps", -1),
        first_of("steps", 256),
        first_of("steps", 65536),
        first_of("steps", 2**62),
        first_of("steps", 2**63, dtype="uint64"),
        np.zeros_like(first_of("steps", 0)),
        first_of("steps", 9)[1:],
        first_of("steps", 9).astype(np.float64),
        first_of("steps", 9)[:, None],
    ],
    "counts": [
        first_of("counts", 0),
        first_of("counts", -5),
        first_of("counts", 10**6),
        first_of("counts", 2**63 - 1),
        first_of("counts", 2**64 - 1, dtype="uint64"),
        np.full_like(first_of("counts", 0), 2**62),
        first_of("counts", 9)[1:],
        first_of("counts", 9).astype(np.float64),
        first_of("counts", 9)[None],
    ],
}


@pytest.mark.parametrize("member", WRONG)
def test_a_file_of_wrong_arrays_is_refused(tmp_path: Path, member: str) -> None:
    for wrong in WRONG[member]:
        message = refusal(rewritten(tmp_path / "target.bank", {member: np.array(wrong)}))
        assert len(message.replace(str(tmp_path), "")) < 400
        assert message.isprintable()


@pytest.mark.parametrize("member", MEMBERS)
@pytest.mark.parametrize("shape", ["10**30,", "10**15,", "-1,", "2**40, 2**40", "True,", "[9],"])
def test_a_file_that_declares_what_it_does_not_hold_is_refused(
    tmp_path: Path, member: str, shape: str
) -> None:
    path = rewritten(tmp_path / "target.bank", lacking=member)
    numbers = shape.replace("10**30", "1" + "0" * 30).replace("10**15", "1" + "0" * 15)
    numbers = numbers.replace("2**40", str(2**40))
    header = f"{{'descr': '<i8', 'fortran_order': False, 'shape': ({numbers})}}".ljust(117) + "\n"
    with zipfile.ZipFile(path, "a") as archive:
        stored = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode()
        archive.writestr(f"{member}.npy", stored + bytes(80))
    refusal(path)


def test_a_small_file_that_unpacks_to_gigabytes_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "target.bank"
    HistogramBank.from_images(imagery()).save(path)
    stored = bytearray(path.read_bytes())
    # The size in the central directory, from which zipfile takes it.
    place = stored.index(b"PK\x01\x02") + 24
    stored[place : place + 4] = (3 << 30).to_bytes(4, "little")
    path.write_bytes(bytes(stored))
    assert "unpacks to 3.2 GB" in refusal(path)


class Bomb:
    """Unpickling it leaves a trace."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.trace,)


def test_a_pickle_is_refused_unopened(tmp_path: Path) -> None:
    path, trace = tmp_path / "target.npz", tmp_path / "trace"
    bomb = np.array([Bomb(trace)], dtype=object)
    for member in MEMBERS:
        assert "pickle" in refusal(rewritten(path, {member: bomb}))
    np.savez(path, **dict.fromkeys(MEMBERS, bomb))  # type: ignore[arg-type]
    refusal(path)
    path.write_bytes(pickle.dumps(Bomb(trace)))
    refusal(path)
    assert not trace.exists()


@pytest.mark.parametrize("compressed", [True, False])
def test_a_damaged_file_is_refused_or_reads_as_it_was(tmp_path: Path, compressed: bool) -> None:
    path = tmp_path / "target.bank"
    bank = HistogramBank.from_images(imagery())
    bank.save(path)
    if not compressed:
        with zipfile.ZipFile(path) as packed, io.BytesIO() as plain:
            with zipfile.ZipFile(plain, "w") as archive:
                for name in packed.namelist():
                    archive.writestr(name, packed.read(name))
            path.write_bytes(plain.getvalue())
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    refusals = []
    for case in range(300):
        damaged = bytearray(whole)
        if case % 3 == 0:
            del damaged[int(rng.integers(len(whole))) :]
        else:
            damaged[int(rng.integers(len(whole)))] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged)
        try:
            loaded = HistogramBank.load(path)
        except BankError as error:
            refusals.append(str(error))
        else:
            assert_same(loaded, bank)
    assert len(refusals) > 150
    assert not any("\n" in message for message in refusals)


@pytest.mark.parametrize(
    "change",
    [
        {"format": "x"},
        {"format": float("inf")},
        {"bands": 0},
        {"bands": -3},
        {"bands": 1e30},
        {"bands": 10**30},
        {"weights": [1.0, 2.0]},
        {"weights": [float("nan")] * 3},
        {"weights": None},
        {"dtypes": ["float64"] * 3},
        {"dtypes": []},
        {"names": 5},
        {"names": ["a"]},
        {"names": [["a"], ["b", "c"]]},
        {"sizes": "aaaa"},
        {"sizes": [1] * 9},
        {"steps": None},
        {"counts": "é"},
        {"counts": "aaaa"},
        {"counts": 5},
        {"counts": HistogramBank.from_images(imagery(seed=1)).to_dict()["sizes"]},
    ],
)
def test_values_that_contradict_each_other_are_refused(change: dict[str, Any]) -> None:
    values = HistogramBank.from_images(imagery()).to_dict()
    with pytest.raises(BankError, match=r"^not a histogram bank: .+") as caught:
        HistogramBank.from_dict(values | change)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("member", MEMBERS)
def test_incomplete_values_are_refused(member: str) -> None:
    values = HistogramBank.from_images(imagery()).to_dict()
    del values[member]
    with pytest.raises(BankError, match=f"^not a histogram bank: it .*{member}"):
        HistogramBank.from_dict(values)


@pytest.mark.parametrize("values", [[], "bank", None, 5, {}])
def test_what_is_no_mapping_of_a_bank_is_refused(values: Any) -> None:
    with pytest.raises(BankError, match="not a histogram bank"):
        HistogramBank.from_dict(values)


def test_an_entry_that_counts_nothing_is_refused() -> None:
    empty = Histogram(np.zeros((3, 256), dtype=np.int64), np.dtype(np.uint8))
    with pytest.raises(BankError, match="at least one valid pixel"):
        HistogramBank((empty,))


def test_a_failed_save_keeps_the_file_that_was_there(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    path = tmp_path / "target.bank"
    old = HistogramBank.from_images(imagery()[:1])
    old.save(path)
    large = HistogramBank.from_images(imagery(bands=8))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(OutputError, match=r"^cannot write .*target\.bank: .+"):
            large.save(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert_same(HistogramBank.load(path), old)
    assert os.listdir(tmp_path) == ["target.bank"]


@pytest.mark.parametrize(("dtype", "high", "limit"), [("uint16", 2048, 8000), ("uint8", 256, 3000)])
def test_a_bank_is_some_kilobytes_an_image(
    tmp_path: Path, dtype: str, high: int, limit: int
) -> None:
    rng = np.random.default_rng(0)
    images = (rng.integers(0, high, (256, 256, 3)).astype(dtype) for _ in range(4))
    HistogramBank.from_images(images).save(tmp_path / "target.bank")
    assert (tmp_path / "target.bank").stat().st_size <= 4 * limit


@pytest.mark.parametrize("dtype", ["uint16", "int16", "float32"])
def test_imagery_of_any_depth_stays_small(tmp_path: Path, dtype: str) -> None:
    rng = np.random.default_rng(0)
    images = (rng.normal(0, 9000, (500, 400, 3)).clip(0, 32767).astype(dtype) for _ in range(3))
    HistogramBank.from_images(images).save(tmp_path / "target.bank")
    assert (tmp_path / "target.bank").stat().st_size <= 3 * 8000


def test_a_file_that_is_no_bank_is_not_replaced(tmp_path: Path) -> None:
    image = tmp_path / "scene.tif"
    image.write_bytes(b"II*\0 pixels")
    bank = HistogramBank.from_images(imagery())
    with pytest.raises(OutputError, match="exists and is not a histogram bank"):
        bank.save(image)
    assert image.read_bytes() == b"II*\0 pixels"
    bank.save(tmp_path / "a.bank")
    bank.save(tmp_path / "a.bank")
