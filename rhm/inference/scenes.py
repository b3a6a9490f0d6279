"""A scene in, its footprints out."""

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.errors import RasterioError
from rasterio.io import DatasetWriter
from torch import nn

from rhm.data.cog import writing_cog
from rhm.data.ground import scale_between
from rhm.data.opening import quiet_about_georeference
from rhm.data.radiometry import Scaling, histogram_of
from rhm.data.raster import Raster, RasterInfo, describe
from rhm.errors import OutputError
from rhm.files import staged_paths
from rhm.inference.polygons import count_footprints, polygonize, write_footprints
from rhm.inference.stream import Band, Tiling, input_scaling, predict_bands
from rhm.inference.views import Network
from rhm.lookup import PixelMap
from rhm.models.spec import ModelSpec

BYTE_NODATA = 255
BYTE_WHITE = 254
"""A probability raster of bytes holds 0 to 254 for 0 to 1; 255 is nodata."""

_FINGERPRINT = "RHM_FINGERPRINT"

FLOAT_NODATA = -1.0
"""Nodata of a probability raster of float32."""

PROBABILITY_DTYPES = ("float32", "uint8")


@dataclass(frozen=True)
class PolygonConfig:
    """How probabilities become footprints.

    Attributes:
        threshold: probability from which a pixel is building.
        min_area_m2: footprints smaller than this are dropped.
        simplify_m: how far a simplified outline may lie from the traced one.
        min_score: footprints with a lower mean probability are dropped.
        suffix: of the file of footprints: .gpkg, .parquet, .geojson or .fgb.
    """

    threshold: float = 0.5
    min_area_m2: float = 0.0
    simplify_m: float = 0.0
    min_score: float = 0.0
    suffix: str = ".gpkg"


@dataclass(frozen=True)
class Prediction:
    """The files of a predicted scene.

    Attributes:
        probability: COG of probabilities, nodata where the scene has none.
        mask: COG of 0 and 1, nodata 255.
        buildings: footprints with ``score`` and ``area_m2``.
        count: number of footprints.
        notes: what the user should know about this scene.
    """

    probability: Path
    mask: Path
    buildings: Path
    count: int
    notes: tuple[str, ...] = ()


def predict_raster(
    model: Network,
    src: str | os.PathLike[str],
    dst: str | os.PathLike[str],
    *,
    tile: int = 512,
    overlap: int = 64,
    batch_size: int = 4,
    resume: bool = False,
    bands: Sequence[int] | None = None,
    black_is_nodata: bool = False,
    resample: bool = False,
    views: bool = False,
    dtype: str = "float32",
    polygons: PolygonConfig | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> Prediction:
    """Predict a scene ``x.tif`` into ``x_probability.tif``, ``x_mask.tif``, ``x_buildings.gpkg``.

    Every file appears under its name only when it is complete. An earlier prediction is replaced,
    a raster that no prediction wrote is not.

    Args:
        model: gives logits (N, 1, H, W) of normalised images (N, bands, H, W) float32. If it
            has a ``spec`` (as models from ``load_model`` have), its bands, scaling and
            resolution hold; otherwise images are shares, 0 to 1, of their range.
        src: path of the scene, anything GDAL opens.
        dst: folder of the results.
        tile: side of a tile in pixels.
        overlap: pixels that neighbouring tiles share.
        batch_size: tiles that go through the model at once.
        resume: leave a scene alone whose results are there, made of the same file, model and
            settings: an interrupted batch of scenes goes on where it stopped.
        bands: 1-based indices of the bands to use; all but alpha by default.
        black_is_nodata: whether pixels that are zero in all bands have no data.
        resample: predict on a grid of the model's ground sampling distance.
        views: average over the eight turned and mirrored views of every tile, which costs
            eight predictions.
        dtype: of the probability raster: ``float32``, or ``uint8`` with scale 1/254.
        polygons: how footprints are made; by default at the model's threshold.
        on_progress: called with the number of pixels just finished.

    Raises:
        RasterError: the scene cannot be read.
        ModelFileError: the scene does not have the bands that the model takes.
        OutputError: a result cannot be written.
    """
    if dtype not in PROBABILITY_DTYPES:
        raise ValueError(f"dtype is one of {PROBABILITY_DTYPES}, got '{dtype}'")
    spec = getattr(model, "spec", None)
    polygons = polygons or PolygonConfig(threshold=spec.threshold if spec else 0.5)
    tiling = Tiling(tile, overlap, batch_size, views)
    folder, stem = Path(dst), Path(src).stem
    probability = folder / f"{stem}_probability.tif"
    mask = folder / f"{stem}_mask.tif"
    buildings = folder / f"{stem}_buildings{polygons.suffix}"
    settings = (tile, overlap, bands, black_is_nodata, resample, views, dtype, polygons)
    fingerprint = _fingerprint(model, src, settings)
    if resume and buildings.is_file() and _fingerprint_of(mask) == fingerprint:
        count = count_footprints(buildings)
        return Prediction(probability, mask, buildings, count, ("was there already",))
    _refuse_foreign(probability, mask)
    scale, notes = _scale(describe(src), spec, resample=resample)
    with Raster(src, bands=bands, black_is_nodata=black_is_nodata, scale=scale) as raster:
        if polygons.suffix == ".geojson" and raster.info.crs is None:
            raise OutputError(
                f"{raster.info.path} has no coordinate reference system, which GeoJSON needs: "
                "choose another format"
            )
        scaling, measured = input_scaling(raster, spec)
        table = _input_table(raster, scaling, spec)
        if measured and spec is not None:
            notes.append(
                f"the model stores no range for {raster.info.dtype} imagery; this scene's own "
                "was measured"
            )
        with staged_paths([probability, mask, buildings]) as staged:
            with (
                _rasters(staged[0], staged[1], raster.info, dtype, fingerprint) as rasters,
                _evaluating(model),
            ):
                bands_of_rows = predict_bands(
                    model,
                    raster.read,
                    raster.info.height,
                    raster.info.width,
                    table,
                    tiling,
                    on_progress=on_progress,
                )
                _write(bands_of_rows, rasters, dtype, polygons.threshold)
            frame = polygonize(
                staged[0],
                threshold=polygons.threshold,
                min_area_m2=polygons.min_area_m2,
                simplify_m=polygons.simplify_m,
                min_score=polygons.min_score,
            )
            write_footprints(frame, staged[2])
    return Prediction(probability, mask, buildings, len(frame), tuple(notes))


def _input_table(raster: Raster, scaling: Scaling, spec: ModelSpec | None) -> PixelMap:
    if spec is None:
        return scaling.table()
    standardizes = spec.standardize != "none"
    return spec.input_table(scaling, histogram_of(raster) if standardizes else None)


@contextmanager
def _evaluating(model: Network) -> Iterator[None]:
    """Put a module into ``eval`` mode, in which it has no memory, and back again."""
    if not isinstance(model, nn.Module):
        yield
        return
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)


def _write(
    bands: Iterable[Band],
    rasters: tuple[DatasetWriter, DatasetWriter],
    dtype: str,
    threshold: float,
) -> None:
    probabilities, masks = rasters
    for band in bands:
        rows = ((band.row, band.row + len(band.valid)), (0, band.valid.shape[1]))
        stored = _stored(band, dtype)
        probabilities.write(stored, 1, window=rows)
        masks.write(_mask(stored, band.valid, threshold), 1, window=rows)


def _fingerprint(model: Network, src: str | os.PathLike[str], settings: tuple[Any, ...]) -> str:
    """Return a hash of all that decides a prediction: scene, model and settings."""
    digest = hashlib.sha256(repr(settings).encode())
    path = Path(src)
    state = path.stat() if path.is_file() else None
    digest.update(
        repr((str(path.absolute()), state and (state.st_size, state.st_mtime_ns))).encode()
    )
    digest.update(repr(getattr(model, "spec", None)).encode())
    if isinstance(model, nn.Module):
        for name, tensor in sorted(model.state_dict().items()):
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    else:
        digest.update(repr(getattr(model, "__qualname__", type(model))).encode())
    return digest.hexdigest()


def _fingerprint_of(raster: Path) -> str | None:
    """Return the fingerprint of the prediction that wrote a raster.

    Empty for a raster that no prediction wrote, None where there is no raster.
    """
    try:
        with quiet_about_georeference():
            dataset = rasterio.open(raster)
        with dataset:
            return str(dataset.tags().get(_FINGERPRINT, ""))
    except RasterioError:
        return None


def _refuse_foreign(*targets: Path) -> None:
    """Check that no raster of the user's own stands where a result is to be written.

    Raises:
        OutputError: one does.
    """
    for target in targets:
        if _fingerprint_of(target) == "":
            raise OutputError(
                f"{target} is there and is no prediction: choose another folder, or move it"
            )


@contextmanager
def _rasters(
    probability: Path, mask: Path, info: RasterInfo, dtype: str, fingerprint: str
) -> Iterator[tuple[DatasetWriter, DatasetWriter]]:
    """Yield the two rasters to write bands of rows into."""
    grid: dict[str, Any] = {
        "height": info.height,
        "width": info.width,
        "crs": info.crs,
        "transform": info.transform,
    }
    compact = dtype == "uint8"
    with (
        writing_cog(
            probability,
            dtype=dtype,
            nodata=BYTE_NODATA if compact else FLOAT_NODATA,
            scale=1.0 / BYTE_WHITE if compact else 1.0,
            description="building probability",
            **grid,
        ) as probabilities,
        writing_cog(
            mask,
            dtype="uint8",
            nodata=BYTE_NODATA,
            description="building",
            overview_resampling="mode",
            **grid,
        ) as masks,
    ):
        for raster in (probabilities, masks):
            raster.update_tags(**{_FINGERPRINT: fingerprint})
        yield probabilities, masks


def _stored(band: Band, dtype: str) -> NDArray[np.float32] | NDArray[np.uint8]:
    if dtype == "float32":
        return np.where(band.valid, band.probability, np.float32(FLOAT_NODATA))
    levels = np.rint(band.probability * BYTE_WHITE).astype(np.uint8)
    return np.where(band.valid, levels, np.uint8(BYTE_NODATA))


def _mask(stored: NDArray[Any], valid: NDArray[np.bool_], threshold: float) -> NDArray[np.uint8]:
    """Return the mask of what was stored, so that it agrees with the footprints traced from it."""
    seen = stored
    if stored.dtype == np.uint8:
        seen = (stored * np.float64(1.0 / BYTE_WHITE)).astype(np.float32)
    return np.where(valid, seen >= threshold, np.uint8(BYTE_NODATA)).astype(np.uint8)


def _scale(info: RasterInfo, spec: ModelSpec | None, *, resample: bool) -> tuple[float, list[str]]:
    """Return the raster's scale, and what to say about its place and resolution."""
    notes = []
    if info.crs is None:
        notes.append("the scene has no coordinate reference system: areas are in square pixels")
    elif info.gsd_m is None:
        notes.append(
            "the scene's coordinates have no place on Earth (a wrong coordinate reference "
            "system?): areas are in square pixels"
        )
    if spec is None or spec.gsd_m is None:
        return 1.0, notes
    if info.gsd_m is None:
        expects = f"the model expects {spec.gsd_m:.2g} m per pixel; the scene does not say its own"
        return 1.0, [*notes, expects]
    if resample:
        return scale_between(info.gsd_m, spec.gsd_m), notes
    if not 1 / 1.2 <= info.gsd_m / spec.gsd_m <= 1.2:
        notes.append(
            f"the scene has {info.gsd_m:.2g} m per pixel, the model expects {spec.gsd_m:.2g} m: "
            "--resample predicts at the model's"
        )
    return 1.0, notes
