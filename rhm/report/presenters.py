"""Views: tables and charts in the order and grouping in which the templates show them."""

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any, Protocol, TypeVar

from rhm.report import plots
from rhm.report.cross_domain import Difference, Ranking, Target
from rhm.report.diagnostics import DomainHistogram, Gallery, GalleryView, Reliability, TrainingCurve
from rhm.report.feature_curves import FeatureCurve, feature_panels
from rhm.report.numbers import MISSING, count, number
from rhm.report.runs import read_image
from rhm.report.thresholds import PrecisionRecall

_RUN_COLUMNS = (
    ("run", "Run", False),
    ("sources", "Sources", False),
    ("method", "Method", False),
    ("seed", "Seed", True),
    ("model", "Model", False),
    ("parameters", "Parameters", True),
    ("bands", "Bands", True),
    ("gsd_m", "Pixel, m", True),
    ("training_images", "Training images", True),
    ("split_hash", "Split hash", False),
    ("licence", "Licence of the data", False),
    ("rhm_version", "rhm version", False),
    ("threshold", "Threshold", True),
    ("scored_on", "Scored on", False),
    ("created", "Evaluated", False),
)
_ALWAYS_COLUMNS = 4


def run_table(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What differs between the runs, as columns, and what they share, as pairs of label and text.

    A table of everything is wider than a page, and mostly repeats itself.
    """
    rows = [_run_texts(run) for run in runs]
    columns, shared = [], []
    for index, (key, label, numeric) in enumerate(_RUN_COLUMNS):
        if index < _ALWAYS_COLUMNS or len({row[key] for row in rows}) > 1:
            columns.append({"key": key, "label": label, "numeric": numeric})
        else:
            shared.append((label, rows[0][key]))
    return {"columns": columns, "rows": rows, "shared": shared}


def ranking_blocks(rankings: Sequence[Ranking]) -> list[dict[str, Any]]:
    """Per sources: the rankings side by side, methods in the order of the unseen domains'."""
    blocks = []
    for sources, group in groupby(rankings, key=lambda ranking: ranking.sources):
        same = list(group)
        lead = next((ranking for ranking in same if ranking.role == "unseen"), same[-1])
        means = [{rank.method: rank.iou for rank in ranking.ranks} for ranking in same]
        rows = [(rank.method, [mean[rank.method] for mean in means]) for rank in lead.ranks]
        blocks.append({"sources": sources, "rankings": same, "rows": rows})
    return blocks


class _OfTarget(Protocol):
    @property
    def target(self) -> Target: ...


_Row = TypeVar("_Row", bound=_OfTarget)


def by_target(rows: Sequence[_Row]) -> list[list[_Row]]:
    """Rows of the same target together."""
    return [list(same) for _, same in groupby(rows, key=lambda row: row.target)]


def difference_blocks(
    overlap: Sequence[Difference], objects: Sequence[Difference], styles: dict[str, str]
) -> list[dict[str, Any]]:
    """Per sources: a panel per method, and a row per method and domain for the table."""
    found = {(d.sources, d.method, d.target): d for d in objects}
    blocks = []
    for sources, same in groupby(overlap, key=lambda d: d.sources):
        rows = list(same)
        limits = plots.difference_limits(rows)
        panels = []
        for method, differences in groupby(rows, key=lambda d: d.method):
            panel = plots.difference_panel(list(differences), styles[method], limits)
            panels.append((method, panel))
        pairs = [(row, found.get((row.sources, row.method, row.target))) for row in rows]
        blocks.append({"sources": sources, "panels": panels, "rows": pairs})
    return blocks


def reliability_panels(rows: Sequence[Reliability], styles: dict[str, str]) -> list[dict[str, Any]]:
    """Per target and sources: a panel with a curve per method."""
    panels = []
    for (target, sources), same in groupby(rows, key=lambda c: (c.target, c.sources)):
        curves = list(same)
        panel = plots.reliability_panel(curves, styles)
        panels.append({"target": target, "sources": sources, "panel": panel})
    return panels


def precision_recall_panels(
    rows: Sequence[PrecisionRecall], styles: dict[str, str]
) -> list[dict[str, Any]]:
    """Per target and sources: a panel with a curve per method."""
    panels = []
    for (target, sources), same in groupby(rows, key=lambda c: (c.target, c.sources)):
        panel = plots.precision_recall_panel(list(same), styles)
        panels.append({"target": target, "sources": sources, "panel": panel})
    return panels


def histogram_figures(rows: Sequence[DomainHistogram]) -> list[dict[str, Any]]:
    """Per domain: a panel per band."""
    figures = []
    for row in rows:
        panels = [
            plots.histogram_panel(band, number, row.target.label)
            for number, band in enumerate(row.bands, start=1)
        ]
        figures.append({"row": row, "panels": panels})
    return figures


def curve_blocks(rows: Sequence[TrainingCurve], styles: dict[str, str]) -> list[dict[str, Any]]:
    """Per sources: the panels, and the curves for the table."""
    blocks = []
    for sources, same in groupby(rows, key=lambda curve: curve.sources):
        curves = list(same)
        panels = plots.curve_panels(curves, styles)
        blocks.append({"sources": sources, "panels": panels, "curves": curves})
    return blocks


def feature_blocks(rows: Sequence[FeatureCurve], styles: dict[str, str]) -> list[dict[str, Any]]:
    """Per sources: the panels, and the curves for the table."""
    blocks = []
    for sources in dict.fromkeys(row.sources for row in rows):
        curves = [row for row in rows if row.sources == sources]
        blocks.append(
            {"sources": sources, "panels": feature_panels(curves, styles), "curves": curves}
        )
    return blocks


def gallery_views(galleries: Sequence[Gallery]) -> list[dict[str, Any]]:
    """Galleries by target; a picture shown twice is written once and referred to."""
    pictures: dict[str, str] = {}
    result = []
    for gallery in galleries:
        blocks = [
            (target, [(tile, [_tile_view(view, pictures) for view in tile.views]) for tile in same])
            for target, same in groupby(gallery.tiles, key=lambda tile: tile.target)
        ]
        result.append({"sources": gallery.sources, "methods": gallery.methods, "blocks": blocks})
    return result


def _tile_view(view: GalleryView, pictures: dict[str, str]) -> dict[str, Any]:
    example = view.example
    data = read_image(view.run.folder, example)
    # The size belongs to the picture: `use` cannot give one to an image it refers to.
    key = f"{example.width}x{example.height}:{data}"
    first = key not in pictures
    image_id = pictures.setdefault(key, f"tile-{len(pictures) + 1}")
    return {
        "view": view,
        "description": f"{example.name}: buildings on the ground and as {view.method} sees them, "
        f"IoU {number(example.iou)}",
        "width": example.width,
        "height": example.height,
        "first": first,
        "image_id": image_id,
        "data": data,
        "truth": plots.outlines(example.truth, example),
        "prediction": plots.outlines(example.prediction, example),
    }


def _run_texts(run: Mapping[str, Any]) -> dict[str, str]:
    return {
        "run": run["run"],
        "sources": " + ".join(run["sources"]),
        "method": run["method"],
        "seed": str(run["seed"]),
        "model": f"{run['architecture']}, {run['encoder']}",
        "parameters": count(run["parameters"]),
        "bands": str(run["bands"]),
        "gsd_m": MISSING if run["gsd_m"] is None else f"{run['gsd_m']:.3g}",
        "training_images": count(run["training_images"]),
        "split_hash": (run["split_hash"] or MISSING)[:12],
        "licence": run["licence"] or MISSING,
        "rhm_version": run["rhm_version"] or MISSING,
        "threshold": f"{run['threshold']:g}",
        "scored_on": " of ".join(filter(None, (run["split"], run["catalog"]))),
        "created": run["created"],
    }
