"""Banks of images on disk: what is counted, shifted and left out, by any number of workers."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import rasterio.windows
from affine import Affine
from numpy.typing import NDArray

from rhm.colour.histogram import Histogram
from rhm.colour.histogram_bank import HistogramBank
from rhm.colour.lookup import PixelMap
from rhm.colour.spectra.spectrum import Spectrum
from rhm.data.catalog import Source
from rhm.data.radiometry import (
    Scaling,
    bank_of,
    harmonize,
    measure_scalings,
    shift_for,
)
from rhm.errors import BankError, ConfigError, RasterError
from tests.data.imagery import HALF_METRE, UTM, noise, write_raster
from tests.data.scalings import imagery


def pixelwise(histogram: Histogram, family: str, name: str, *, seed: int) -> PixelMap:
    """The shift of a family that treats bands one by one."""
    shift = shift_for(histogram, family, name, seed=seed)
    assert isinstance(shift, PixelMap)
    return shift


def test_a_shift_follows_from_seed_and_name() -> None:
    histogram = Histogram.of(noise(9, 9, dtype="uint16"))
    first, again, other, later = (
        pixelwise(histogram, "gamma", name, seed=seed).tables
        for name, seed in (("a", 0), ("a", 0), ("b", 0), ("a", 1))
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    assert (first != later).any()
    # It stays in the range that the image uses.
    assert first.max() <= max(Scaling.measure(histogram).high)
    with pytest.raises(ConfigError, match="unknown shift 'sepia'"):
        shift_for(histogram, "sepia", "a", seed=0)
    below = Histogram.of(np.full((3, 3), -5, dtype=np.int16))
    with pytest.raises(ConfigError, match="cannot shift the values of a: none is above 0"):
        shift_for(below, "gamma", "a", seed=0)


def test_the_bank_of_images_leaves_out_those_without_data(tmp_path: Path) -> None:
    images = {"a": noise(8, 8, 5), "empty": np.zeros((8, 8, 5), np.uint8), "b": noise(9, 7, 5)}
    paths = {name: write_raster(tmp_path / f"{name}.tif", each) for name, each in images.items()}
    sources = [
        Source(path, None, "town", name, black_is_nodata=True) for name, path in paths.items()
    ]
    ticks: list[int] = []
    bank = bank_of(sources, bands=[4, 1], on_progress=lambda: ticks.append(1))
    assert bank.names == ("town/a", "town/b")
    assert len(ticks) == 3
    for histogram, name in zip(bank.histograms, "ab", strict=True):
        expected = Histogram.of(images[name][..., [3, 0]])
        np.testing.assert_array_equal(histogram.counts, expected.counts)
    shifted = bank_of(sources, shift="monotone", seed=3)
    map_a = pixelwise(Histogram.of(images["a"]), "monotone", "a", seed=3)
    np.testing.assert_array_equal(
        shifted.histograms[0].counts, Histogram.of(map_a.apply(images["a"])).counts
    )
    with pytest.raises(BankError, match="at least one image with valid pixels"):
        bank_of(sources[1:2])


def test_the_spectrum_of_an_image_is_that_of_its_windows(tmp_path: Path) -> None:
    pixels = noise(70, 150, 3)
    pixels[:, 100:] = 0
    path = write_raster(tmp_path / "town.tif", pixels, nodata=0)
    bank = bank_of([Source(path, None, "town", "a")], spectrum_px=32)
    expected = Spectrum.of_image(pixels, np.asarray(pixels.any(axis=-1)), 32)
    (found,) = bank.spectra
    assert found is not None
    assert expected is not None
    np.testing.assert_allclose(found.amplitudes, expected.amplitudes, rtol=1e-5)
    assert sorted(found.others) == sorted(expected.others) == [8, 16, 64]
    for side, amplitudes in found.others.items():
        # The means of pixels are whole numbers again if they are read from a raster.
        np.testing.assert_allclose(amplitudes, expected.others[side], rtol=0.01, atol=0.05)
    with Source(path, None, "town", "a").open() as raster:
        assert found.gsd_m == raster.info.gsd_m
    (plain,) = bank_of([Source(path, None, "town", "a")]).spectra
    assert plain is None
    with pytest.raises(ConfigError, match="leave out the shift"):
        bank_of([Source(path, None, "town", "a")], spectrum_px=32, shift="gamma")


def waves(height: int, width: int) -> NDArray[np.float32]:
    """Waves of 256 pixels along the columns, one band."""
    rows, cols = np.mgrid[:height, :width]
    pixels = 90.0 + 40.0 * np.sin(2 * np.pi * rows / 256) + 10.0 * np.sin(2 * np.pi * cols / 512)
    return np.asarray(pixels[..., None], dtype=np.float32)


def spectrum_in(path: Path, **options: Any) -> Spectrum:
    bands = options.pop("bands", None)
    black = options.pop("black_is_nodata", False)
    source = Source(path, None, "town", "a", black_is_nodata=black)
    (found,) = bank_of([source], spectrum_px=16, bands=bands, **options).spectra
    assert found is not None
    return found


@pytest.mark.parametrize("lacking", ["nothing", "most", "border", "border, black", "dots", "NaN"])
def test_larger_windows_know_the_waves_around_nodata(tmp_path: Path, lacking: str) -> None:
    """Oracle: the amplitudes of the waves."""
    pixels = waves(2048, 2048)
    options: dict[str, Any] = {"nodata": 0.0}
    if lacking == "most":
        pixels[300:] = pixels[:, 600:] = 0.0
    elif lacking.startswith("border"):
        pixels[np.add.outer(np.arange(2048), np.arange(2048)) < 1500] = 0.0
    elif lacking in ("dots", "NaN"):
        dots = np.random.default_rng(0).random((2048, 2048)) < 0.02
        pixels[dots] = np.nan if lacking == "NaN" else 0.0
    if lacking in ("border, black", "NaN"):
        options = {}
    path = write_raster(tmp_path / "town.tif", pixels, **options)
    found = spectrum_in(path, black_is_nodata=lacking == "border, black")
    assert sorted(found.others) == [4, 8, 32, 64, 128, 256]
    # One wave in 256 pixels, of half its height; half a wave is not told apart from its double.
    assert found.others[256][0, 3, 0] == pytest.approx(0.5 * 40.0, rel=0.05)
    assert found.others[256][0, 2, 2] < 1.5


def test_larger_windows_are_spread_over_an_image(tmp_path: Path) -> None:
    """Half of the pixels is read; the waves are in the lower half only."""
    pixels = np.full((8192, 4096, 1), 90, np.uint8)
    pixels[4096:] = np.rint(waves(4096, 4096)).astype(np.uint8)
    found = spectrum_in(write_raster(tmp_path / "town.tif", pixels))
    assert found.others[256][0, 3, 0] == pytest.approx(0.5 * 20.0, rel=0.1)


def test_a_small_island_in_a_sea_of_nodata_has_a_spectrum(tmp_path: Path) -> None:
    """The windows that are looked at first would all be empty."""
    path = tmp_path / "sea.tif"
    profile = {"driver": "GTiff", "height": 6000, "width": 6000, "count": 1, "dtype": "float32"}
    tiles = {"tiled": True, "blockxsize": 128, "blockysize": 128, "sparse_ok": True}
    island = np.moveaxis(waves(320, 320), -1, 0)
    with rasterio.open(
        path, "w", **profile, **tiles, nodata=0.0, crs=UTM, transform=HALF_METRE
    ) as file:
        file.write(island, window=rasterio.windows.Window(2000, 3000, 320, 320))
    found = spectrum_in(path)
    assert found.amplitudes[0, 1, 0] == pytest.approx(90.0, rel=0.3)
    assert 64 in found.others


def test_larger_windows_of_a_much_finer_image_are_read_in_parts(tmp_path: Path) -> None:
    """Oracle: the height of the wave, which has 256 pixels at twenty times the distance."""
    rows = np.arange(5120)[:, None] * np.ones((1, 5120))
    pixels = np.rint(90.0 + 40.0 * np.sin(2 * np.pi * rows / 5120)).astype(np.uint8)
    path = write_raster(tmp_path / "town.tif", pixels[..., None])
    own = spectrum_in(path).gsd_m
    assert own is not None
    found = spectrum_in(path, gsd_m=20.0 * own)
    assert sorted(found.others) == [4, 8, 32, 64, 128, 256]
    assert found.others[256][0, 3, 0] == pytest.approx(0.5 * 40.0, rel=0.02)


def test_larger_windows_have_the_chosen_bands_and_the_chosen_distance(tmp_path: Path) -> None:
    pixels = np.concatenate([waves(640, 640), 3.0 * waves(640, 640)], axis=2)
    path = write_raster(tmp_path / "town.tif", pixels)
    both, second = spectrum_in(path), spectrum_in(path, bands=[2])
    for side, amplitudes in second.others.items():
        np.testing.assert_array_equal(amplitudes, both.others[side][1:])
    own = both.gsd_m
    assert own is not None
    assert sorted(both.others) == [4, 8, 32, 64, 128, 256]
    # 640 pixels are 160 of four times the size, and 128 of five times, whatever the rounding.
    for factor, larger in ((4.0, [32, 64, 128]), (5.0, [32, 64, 128]), (5.1, [32, 64])):
        found = spectrum_in(path, gsd_m=factor * own)
        assert sorted(found.others)[2:] == larger
        # The waves have 64 pixels then, and their windows as many metres as before.
        if factor == 4.0:
            true = both.others[256][0, 3, 0]
            assert found.others[64][0, 3, 0] == pytest.approx(true, rel=0.02)


def test_pixels_that_are_not_square_are_made_square(tmp_path: Path) -> None:
    """Oracle: the wavelength along each axis, of 32 m, in chips of 128 m."""
    rows, cols = np.mgrid[:256, :512]
    pixels = 90.0 + 20.0 * np.sin(2 * np.pi * rows / 32) + 20.0 * np.sin(2 * np.pi * cols / 64)
    place = Affine(0.5, 0.0, 0.0, 0.0, -1.0, 0.0)
    path = write_raster(
        tmp_path / "town.tif", pixels[..., None].astype(np.float32), transform=place
    )
    (found,) = bank_of([Source(path, None, "town", "a")], spectrum_px=128).spectra
    assert found is not None
    assert found.gsd_m == pytest.approx(0.5**0.5, rel=5e-3)
    magnitudes = found.at(128, 128, 12, gsd_m=1.0)[0]
    along_rows, along_cols = magnitudes[13:, 0], magnitudes[12, 1:]
    np.testing.assert_allclose(along_rows, along_cols, rtol=0.05)
    cycles = np.arange(1, 13)
    assert (along_rows**2 * cycles).sum() / (along_rows**2).sum() == pytest.approx(4.0, abs=0.5)


def test_spectra_can_be_read_at_another_distance(tmp_path: Path) -> None:
    pixels = noise(96, 96, 1)
    path = write_raster(tmp_path / "town.tif", pixels)
    source = Source(path, None, "town", "a")
    with source.open() as raster:
        own = raster.info.gsd_m
    assert own is not None
    (found,) = bank_of([source], spectrum_px=32, gsd_m=2.0 * own).spectra
    with source.open(0.5) as raster:
        expected = Spectrum.of_image(raster.read().values, side=32)
    assert found is not None
    assert expected is not None
    assert found.gsd_m == 2.0 * own
    np.testing.assert_allclose(found.amplitudes, expected.amplitudes, rtol=1e-5)
    # Histograms count the stored values, whatever the spectra are read at.
    assert bank_of([source], spectrum_px=32, gsd_m=2.0 * own).histograms[0].pixels == 96 * 96


def test_spectra_are_brought_to_another_type_with_their_histograms() -> None:
    scalings = {
        "uint8": Scaling.of_bytes(3),
        "uint16": Scaling("uint16", (100.0, 0.0, 50.0), (2000.0, 1000.0, 900.0)),
    }
    table = scalings["uint8"].into(scalings["uint16"])
    pixels = noise(64, 64, 3)
    bank = harmonize(HistogramBank.from_images([pixels], spectrum_px=64), "uint16", scalings)
    (found,) = bank.spectra
    expected = Spectrum.of_image(table.apply(pixels), side=64)
    assert found is not None
    assert expected is not None
    # The values of the table are rounded.
    np.testing.assert_allclose(found.amplitudes, expected.amplitudes, rtol=0.01, atol=0.1)


def test_a_shift_that_mixes_bands_is_none_of_histograms(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "image.tif", noise(9, 9))
    with pytest.raises(ConfigError, match="'hsv' mixes bands"):
        bank_of([Source(path, None, "town", "image")], shift="hsv")


@pytest.mark.parametrize("added", [True, False])
def test_an_image_that_does_not_go_with_the_others_ends_it_at_once(
    tmp_path: Path, added: bool
) -> None:
    gray = write_raster(tmp_path / "gray.tif", noise(40, 40, 1))
    colour = write_raster(tmp_path / "colour.tif", noise(40, 40, 3))
    paths = [gray, colour, tmp_path / "never looked at.tif"]
    sources = [Source(path, None, "town", path.stem) for path in paths[added:]]
    known = bank_of([Source(gray, None, "town", "gray")]) if added else None
    with pytest.raises(BankError, match=r"images with \[1, 3\] bands cannot share"):
        bank_of(sources, add=known, workers=1)
    other = bank_of([Source(colour, None, "town", "x")], spectrum_px=16)
    with pytest.raises(BankError, match="windows of one size"):
        bank_of([sources[-2], sources[-1]], spectrum_px=32, add=other, workers=1)
    with pytest.raises(BankError, match="has 5005 characters"):
        bank_of([Source(gray, None, "x" * 5000, "gray"), sources[-1]], workers=1)


def test_images_are_added_to_those_of_another_bank(tmp_path: Path) -> None:
    first, second = sources_in(tmp_path, 6)[:3], sources_in(tmp_path, 6)[3:]
    known = bank_of(first, spectrum_px=16)
    both, merged = bank_of(second, add=known), known.merge(bank_of(second))
    assert (both.names, both.spectra) == (merged.names, merged.spectra)
    both.save(tmp_path / "both.bank")
    merged.save(tmp_path / "merged.bank")
    assert (tmp_path / "both.bank").read_bytes() == (tmp_path / "merged.bank").read_bytes()


def sources_in(folder: Path, count: int) -> list[Source]:
    """Small images of several sizes and types."""
    dtypes = ("uint8", "uint16", "int16", "float32")
    return [
        Source(
            write_raster(
                folder / f"{number}.tif", imagery(dtypes[number % 4], 30 + 7 * number, 60)
            ),
            None,
            f"town{number % 3}",
            str(number),
        )
        for number in range(count)
    ]


@pytest.mark.parametrize("decimated", [False, True])
@pytest.mark.parametrize("shift", [None, "gamma"])
def test_the_bank_is_the_same_for_any_number_of_workers(
    tmp_path: Path, decimated: bool, shift: str | None
) -> None:
    sources = sources_in(tmp_path, 9)
    for workers in (1, 2, 5, None):
        bank = bank_of(sources, workers=workers, decimated=decimated, shift=shift)
        bank.save(tmp_path / f"{workers}.bank")
    assert bank.names == tuple(f"town{number % 3}/{number}" for number in range(9))
    assert len({path.read_bytes() for path in tmp_path.glob("*.bank")}) == 1


def test_a_decimated_bank_counts_four_million_pixels(tmp_path: Path) -> None:
    pixels = np.tile(np.arange(256, dtype=np.uint8), (2200, 9))[:, :2200]
    path = write_raster(tmp_path / "image.tif", pixels, compress="deflate", overviews=(2, 4))
    sources = [Source(path, None, "town", "image")]
    few, all_of_them = (bank_of(sources, decimated=each).histograms[0] for each in (True, False))
    assert all_of_them.pixels == 2200 * 2200
    assert 4.0e6 < few.pixels <= 1 << 22
    assert few.distance(all_of_them)[0] < 0.5


@pytest.mark.parametrize("workers", [1, 3])
def test_images_are_asked_for_as_they_are_counted(tmp_path: Path, workers: int) -> None:
    sources = sources_in(tmp_path, 20)
    asked, counted, ahead = 0, 0, []

    def asking() -> Iterator[Source]:
        nonlocal asked
        for source in sources:
            asked += 1
            ahead.append(asked - counted)
            yield source

    def count() -> None:
        nonlocal counted
        counted += 1

    assert len(bank_of(asking(), workers=workers, on_progress=count)) == counted == 20
    assert max(ahead) <= 2 * workers


@pytest.mark.parametrize("workers", [1, 4])
def test_the_first_error_ends_it(tmp_path: Path, workers: int) -> None:
    sources = sources_in(tmp_path, 40)
    # The earlier of two failures takes longer to be found.
    for number, content in ((2, sources[39].image.read_bytes()[:-2000]), (3, b"")):
        sources[number].image.write_bytes(content)
    asked: list[str] = []

    def asking() -> Iterator[Source]:
        for source in sources:
            asked.append(source.name)
            yield source

    with pytest.raises(RasterError, match=r"/2\.tif"):
        bank_of(asking(), workers=workers)
    assert len(asked) <= 3 + 2 * workers


@pytest.mark.shared
def test_the_range_of_11_bit_imagery_is_found(shared_data: Path) -> None:
    images = sorted((shared_data / "spacenet2_vegas" / "images").glob("RGB-PanSharpen*.tif"))
    bank = bank_of([Source(path, None, "vegas", path.stem) for path in images])
    (scaling,) = measure_scalings(bank.histograms).values()
    assert scaling.dtype == "uint16"
    assert max(scaling.high) < 2048
    assert min(scaling.low) > 0
