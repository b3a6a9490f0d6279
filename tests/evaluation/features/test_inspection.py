"""A model's features by stage and domain; oracles: sklearn-free definitions, built models."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import segmentation_models_pytorch as smp
import torch
from torch import Tensor, nn

from rhm.analysis.moments import ClassMoments
from rhm.analysis.separation import separation
from rhm.analysis.taps import stages
from rhm.data import Catalog
from rhm.data.labels import IGNORE, Label
from rhm.data.radiometry import Scaling
from rhm.errors import AnalysisError, CatalogError
from rhm.evaluation.features.feature_moments import CellSampling, collect_features
from rhm.evaluation.features.findings import Inspection
from rhm.evaluation.features.inspection import images_to_inspect, inspect_model
from rhm.models.build import SegmentationModel
from rhm.models.spec import ModelSpec
from rhm.report.features.analysis_page import FILES, left_out, render, write_analysis
from rhm.report.features.stage_plots import StageLine, limits_of, log_ticks, stage_panel
from tests.data.imagery import write_raster

SAMPLING = CellSampling(images=6, window_px=96, cells=50, ground_px=2)
STAGES = ["encoder[0]", "encoder[1]", "decoder.blocks.3", "decoder"]


@pytest.fixture(scope="module")
def model() -> SegmentationModel:
    torch.manual_seed(0)
    scalings = {
        dtype: Scaling(dtype, (0.0,) * 3, (float(np.iinfo(dtype).max) / factor,) * 3)
        for dtype, factor in (("uint8", 1), ("uint16", 16))
    }
    spec = ModelSpec("unet", "test_efficientnet", 3, scalings=scalings, sources=("alder_aerial",))
    return SegmentationModel(spec).eval()


@pytest.fixture(scope="module")
def catalog(catalog_path: Path) -> Catalog:
    return Catalog.load(catalog_path)


@pytest.fixture(scope="module")
def inspection(model: SegmentationModel, catalog: Catalog) -> Inspection:
    images = images_to_inspect(catalog, model.spec, split=None)
    return inspect_model(model, images, SAMPLING, name="<model>", stages=STAGES)


def test_the_image_itself_has_the_statistics_of_its_pixels(
    model: SegmentationModel, catalog: Catalog
) -> None:
    tiles = catalog.select(domains=["alder_aerial"]).tiles
    everything = replace(SAMPLING, cells=10**6, ground_px=1)
    found = collect_features(model, tiles, everything, names=["encoder[0]"])["encoder[0]"]
    moments = ClassMoments(2, 3)
    for tile in tiles:
        assert tile.label is not None
        with tile.open() as raster, Label(tile.label, raster) as label:
            pixels, valid = raster.read()
            known = np.where(valid, label.read(), IGNORE)
        rows = ((pixels / 255.0 - 0.5) / 0.5).astype(np.float32)
        moments.update(rows.reshape(-1, 3), known.reshape(-1), ignore_index=IGNORE)
    assert found.moments.counts.tolist() == moments.counts.tolist()
    np.testing.assert_allclose(found.moments.means, moments.means, rtol=1e-5, atol=1e-6)
    assert separation(found.moments).compression == pytest.approx(
        separation(moments).compression, rel=1e-4
    )


def test_halves_do_not_share_a_group(model: SegmentationModel, catalog: Catalog) -> None:
    tiles = catalog.select(domains=["alder_aerial"]).tiles
    found = collect_features(model, tiles, SAMPLING, names=["encoder[0]"])["encoder[0]"]
    assert min(found.fitted.counts.tolist() + found.held.counts.tolist()) > 0
    features, labels = found.sample()
    assert len(features) == len(labels) <= found.held.samples
    assert {0, 1} == set(labels.tolist())
    one_group = [replace(tile, group="all") for tile in tiles]
    found = collect_features(model, one_group, SAMPLING, names=["encoder[0]"])["encoder[0]"]
    assert min(found.fitted.samples, found.held.samples) > 0


def test_the_same_seed_looks_at_the_same_cells(model: SegmentationModel, catalog: Catalog) -> None:
    tiles = catalog.select(domains=["birch_satellite"]).tiles
    first, again, other = (
        collect_features(model, tiles, replace(SAMPLING, seed=seed), names=["encoder[1]"])
        for seed in (1, 1, 2)
    )
    assert torch.equal(first["encoder[1]"].fitted.means, again["encoder[1]"].fitted.means)
    assert not torch.equal(first["encoder[1]"].fitted.means, other["encoder[1]"].fitted.means)


def test_every_stage_and_domain_has_a_row(inspection: Inspection) -> None:
    domains = {"alder_aerial", "alder_satellite", "birch_aerial", "birch_satellite"}
    assert {(each.stage, each.domain) for each in inspection.stages} == {
        (stage, domain) for stage in STAGES for domain in domains
    }
    for each in inspection.stages:
        assert each.trained_on == (each.domain == "alder_aerial")
        assert 0.0 <= each.probe <= 1.0
        assert set(each.shift) == set(each.advance) == {"background", "building"}
        if each.trained_on:
            assert max(each.shift.values()) == 0.0
            assert each.probe == each.transfer
        else:
            assert min(each.shift.values()) > 0.0
    assert [each.stage for each in inspection.variance] == STAGES
    assert {each.domain for each in inspection.last} == domains
    assert all(0.0 <= each.nc4 <= 1.0 for each in inspection.last)
    assert inspection.best is not None
    assert inspection.best.stage in STAGES[1:]
    by_stage = pd.DataFrame(inspection.to_dict()["stages"]).query("domain != 'alder_aerial'")
    means = by_stage.groupby("stage")["probe"].mean().drop("encoder[0]")
    assert inspection.best.probe == pytest.approx(means.max())
    assert inspection.best.last == pytest.approx(means["decoder"])


class Encoder(nn.Module):
    """Adds to what it sees in 16-bit imagery, which is dark here."""

    def forward(self, images: Tensor) -> list[Tensor]:
        return [images, images + 100.0 * (images.mean() < -0.5)]


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = Encoder()
        self.segmentation_head = nn.Sequential(nn.Conv2d(3, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        return torch.as_tensor(self.segmentation_head(self.encoder(images)[1]))


def test_a_domain_that_is_moved_is_told(model: SegmentationModel, catalog: Catalog) -> None:
    dark = {"uint16": Scaling("uint16", (0.0,) * 3, (65535.0,) * 3)}
    moved = SegmentationModel(replace(model.spec, scalings={**model.spec.scalings, **dark})).eval()
    moved.network = Network()
    images = images_to_inspect(catalog, moved.spec, split=None)
    found = inspect_model(moved, images, SAMPLING, name="moved", stages=["encoder[1]"])
    shift = {each.domain: each.shift["building"] for each in found.stages}
    assert shift["birch_satellite"] > 50 * shift["birch_aerial"]
    (variance,) = found.variance
    assert variance.shares.domains > 0.9


def test_outlines_are_a_class_when_asked(model: SegmentationModel, catalog: Catalog) -> None:
    images = images_to_inspect(catalog, model.spec, split=None, domains=["alder_aerial"])
    sampling = replace(SAMPLING, boundary_px=1.5, ground_px=1)
    found = inspect_model(model, images, sampling, name="model", stages=["encoder[0]", "decoder"])
    assert found.classes == ("background", "interior", "boundary")
    assert all(set(each.cells) == set(found.classes) for each in found.stages)
    assert (found.variance, found.last) == ((), ())


def test_what_cannot_be_inspected_is_told_in_one_line(
    model: SegmentationModel, catalog: Catalog
) -> None:
    images = images_to_inspect(catalog, model.spec, split=None)
    with pytest.raises(AnalysisError, match=r"no layer 'decodr': did you mean decoder"):
        inspect_model(model, images, SAMPLING, name="m", stages=["decodr"])
    with pytest.raises(AnalysisError, match=r"encoder\[5\] shows under 10 pure cells of"):
        inspect_model(model, images, SAMPLING, name="m", stages=["encoder[5]"])
    with pytest.raises(CatalogError, match="nothing to compare with"):
        images_to_inspect(catalog, model.spec, split=None, domains=["birch_aerial"])
    empty = {d: [t for t in ts if t.building_fraction == 0.0] for d, ts in images.items()}
    assert not any(empty.values())
    stranger = SegmentationModel(replace(model.spec, sources=()))
    with pytest.raises(CatalogError, match="which it does not record"):
        images_to_inspect(catalog, stranger.spec, split="test")
    broken = SegmentationModel(model.spec).eval()
    first = broken.network.get_submodule("encoder.model.conv_stem")
    with torch.no_grad():
        first.get_parameter("weight")[0] = torch.nan
    with pytest.raises(AnalysisError, match=r"encoder\[1\] on .*: features are not all finite"):
        inspect_model(broken, images, SAMPLING, name="m", stages=["encoder[1]"])
    for wrong in ({"images": 1}, {"window_px": 100}, {"purity": 0.5}, {"boundary_px": -1.0}):
        with pytest.raises(ValueError, match=rf"^{next(iter(wrong))} must be "):
            replace(SAMPLING, **wrong)


def test_stages_on_the_same_ground_see_the_same_places(
    model: SegmentationModel, catalog: Catalog
) -> None:
    tiles = catalog.select(domains=["alder_aerial"]).tiles
    sampling = replace(SAMPLING, cells=10**6, ground_px=4, purity=1.0)
    found = collect_features(
        model, tiles, sampling, names=["encoder[0]", "encoder[1]", "encoder[2]"]
    )
    counts = {name: each.moments.counts for name, each in found.items()}
    assert torch.equal(counts["encoder[0]"], 4 * counts["encoder[1]"])
    assert torch.equal(counts["encoder[0]"], 16 * counts["encoder[2]"])
    assert int(counts["encoder[2]"][1]) > 0
    own = collect_features(model, tiles, replace(sampling, ground_px=1), names=["encoder[0]"])
    assert own["encoder[0]"].moments.samples > found["encoder[0]"].moments.samples
    alone = collect_features(model, tiles, SAMPLING, names=["encoder[1]"])["encoder[1]"]
    among = collect_features(model, tiles, SAMPLING, names=["encoder[0]", "encoder[1]"])
    assert torch.equal(alone.fitted.means, among["encoder[1]"].fitted.means)


def test_halves_are_of_whole_groups_and_nodata_does_not_count(
    model: SegmentationModel, catalog: Catalog, tmp_path: Path
) -> None:
    """Groups of one shade each: a half that shared a group would show the other's shade."""
    (tile, *_) = catalog.select(domains=["alder_aerial"]).tiles
    tiles = []
    for index, shade in enumerate((40, 40, 200, 200)):
        pixels = np.full((96, 96, 3), shade, np.uint8)
        pixels[:32] = 0
        truth = np.zeros((96, 96), np.uint8)
        truth[:, 48:] = 1
        image = write_raster(tmp_path / f"{index}.tif", pixels, nodata=0)
        label = write_raster(tmp_path / f"{index}_mask.tif", truth)
        tiles.append(replace(tile, image=image, label=label, group=str(shade), width=96, height=96))
    found = collect_features(model, tiles, SAMPLING, names=["encoder[0]"])["encoder[0]"]
    shades = [(each.means[0, 0] * 0.5 + 0.5) * 255 for each in (found.fitted, found.held)]
    assert sorted(round(float(shade)) for shade in shades) == [40, 200]
    assert float(found.fitted.spreads.max()) < 1e-6


def test_what_cannot_be_compared_is_left_out_with_its_cause(
    model: SegmentationModel, catalog: Catalog
) -> None:
    images = images_to_inspect(catalog, model.spec, split=None)
    images["birch_aerial"] = images["birch_aerial"][:1]
    dead = SegmentationModel(model.spec).eval()
    with torch.no_grad():
        for parameter in dead.network.get_submodule("decoder.blocks.3").parameters():
            parameter.zero_()
    found = inspect_model(dead, images, SAMPLING, name="dead")
    assert "birch_aerial has one image" in found.left_out[0]
    assert {each.domain for each in found.stages} == set(images) - {"birch_aerial"}
    (said,) = [line for line in found.left_out if line.startswith("decoder.blocks.3")]
    assert "features do not vary" in said
    assert "encoder[0]" in {each.stage for each in found.stages}
    lines = left_out([found, replace(found, model="b", left_out=found.left_out[:1])])
    named = inspect_model(model, images, SAMPLING, name="m", stages=["encoder[1]"])
    assert len(named.left_out) == 1
    assert lines[0].endswith("to test")
    assert lines[1].endswith("(dead)")


def test_layers_with_channels_last_are_refused(model: SegmentationModel, catalog: Catalog) -> None:
    class Last(nn.Module):
        def forward(self, images: Tensor) -> list[Tensor]:
            return [images.permute(0, 2, 3, 1), images]

    network = Network()
    network.encoder = Last()  # type: ignore[assignment]
    turned = SegmentationModel(model.spec).eval()
    turned.network = network
    with pytest.raises(AnalysisError, match=r"expected \(N, channels, rows, columns\)"):
        collect_features(
            turned, catalog.select(domains=["alder_aerial"]).tiles, SAMPLING, names=["encoder[0]"]
        )


@pytest.mark.parametrize("encoder", ["convnext_atto", "swin_tiny_patch4_window7_224"])
def test_encoders_that_begin_at_a_quarter_have_stages(encoder: str) -> None:
    size = {"img_size": 224} if "swin" in encoder else {}
    network = smp.Unet(f"tu-{encoder}", encoder_weights=None, **size)
    names = stages(network)
    assert "encoder[1]" not in names
    assert names[:2] == ("encoder[0]", "encoder[2]")
    assert names[-1] == "decoder"


def test_page_and_tables_hold_every_number(inspection: Inspection, tmp_path: Path) -> None:
    other = replace(inspection, model="other")
    written = write_analysis([inspection, other], SAMPLING, tmp_path / "out")
    assert [path.name for path in written] == list(FILES)
    page = written[0].read_text()
    assert "<model>" not in page
    assert "&lt;model&gt;" in page
    assert page.count('class="chart"') == 2 * 10
    values = json.loads(written[1].read_text())
    assert [each["model"] for each in values["models"]] == ["<model>", "other"]
    assert values["sampling"]["window_px"] == 96
    csv, parquet = pd.read_csv(written[2]), pd.read_parquet(written[3])
    assert len(csv) == len(parquet) == 2 * len(inspection.stages)
    assert {"cells_building", "shift_background", "advance_building"} <= set(csv.columns)
    first = values["models"][0]["stages"][0]
    assert parquet.iloc[0]["compression"] == first["compression"]
    for row in inspection.stages:
        assert f"{row.compression:.3f}" in page


def test_a_page_of_one_domain_says_that_nothing_shifted(inspection: Inspection) -> None:
    home = replace(
        inspection,
        stages=tuple(each for each in inspection.stages if each.trained_on),
        variance=(),
        best=None if inspection.best is None else replace(inspection.best, away=False),
        left_out=("encoder[5] shows no pure cells",),
    )
    page = render([home], SAMPLING)
    assert "there is no shift to show" in page
    assert "away from home" not in page
    assert "encoder[5] shows no pure cells" in page
    assert "Where the variance comes from" not in page


def test_a_line_breaks_where_a_stage_is_missing() -> None:
    line = StageLine("town", "s0", ((0.0, 1.0), (1.0, 2.0), (3.0, 1.5), (4.0, 1.2), (8.0, 1.0)))
    panel = stage_panel(
        [line], "C_l", numbers=[0, 1, 3, 4, 8], limits=(1.0, 2.0), description="a town"
    )
    paths = [mark.path for mark in panel.marks if mark.style == "line s0"]
    assert [path.count("L") for path in paths] == [1, 1]
    (dots,) = [mark.path for mark in panel.marks if mark.style == "dots s0"]
    assert dots.count("M") == 5


def test_ticks_of_a_logarithmic_axis() -> None:
    assert [label for _, label in log_ticks(-1.05, 2.05)] == ["0.1", "1", "10", "100"]
    assert [label for _, label in log_ticks(0.0, 1.0)] == ["1", "2", "5", "10"]
    assert 2 <= len(log_ticks(-9.0, 9.0)) <= 7
    assert len(log_ticks(0.31, 0.32)) >= 2
    assert limits_of([3.0, 3.0]) == (1.0, 5.0)
