"""The commands that write files."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Place:
    """Where a command works.

    Attributes:
        folder: holds ``run``, a run with scores, and ``out``, for results.
        world: the sample world.
        catalog: its catalog.
        bank: a bank of one of its domains.
        adapted: an adapted run.
    """

    folder: Path
    world: Path
    catalog: Path
    bank: Path
    adapted: Path

    @property
    def run(self) -> Path:
        """The run."""
        return self.folder / "run"

    @property
    def out(self) -> Path:
        """The folder for results."""
        return self.folder / "out"

    @property
    def scene(self) -> Path:
        """A scene to predict."""
        return self.world / "scenes" / "birch_satellite.tif"

    def files(self) -> dict[str, bytes]:
        """What there is: the contents of all files, and the folders."""
        return {
            str(path.relative_to(self.folder)): path.read_bytes() if path.is_file() else b"/"
            for path in self.folder.rglob("*")
        }

    def digest(self) -> dict[str, str]:
        """The hash of every file."""
        return {name: hashlib.sha256(content).hexdigest() for name, content in self.files().items()}


def _train(place: Place) -> list[object]:
    config = place.folder / "config.yaml"
    config.write_text(
        f"name: new\noutput: {place.out}\n"
        f"data: {{catalog: {place.catalog}, sources: [alder_aerial], chip_px: 64, workers: 0}}\n"
        "model: {encoder: test_efficientnet, weights: none}\n"
        "trainer: {steps: 2, batch_size: 2, validate_every: 1, accelerator: cpu}\n"
    )
    return ["train", config, "--quiet"]


def _adapt(place: Place) -> list[object]:
    short = ("--steps", 2, "--batch-size", 2, "--chip", 64, "--domain", "birch_satellite")
    here = ("--set", "data.workers=0", "--set", "trainer.accelerator=cpu", "--quiet")
    return ["adapt", place.run, place.catalog, *short, *here, "-o", place.out]


COMMANDS: dict[str, Callable[[Place], list[object]]] = {
    "train": _train,
    "adapt": _adapt,
    "index": lambda place: ["data", "index", "folder", place.world, "-o", place.out / "c.parquet"],
    "catalogs": lambda place: [
        *("data", "merge", place.catalog, place.catalog, "-o", place.out / "both.parquet"),
    ],
    "bank": lambda place: ["bank", "build", place.catalog, "-o", place.out / "new.bank"],
    "predict": lambda place: ["predict", place.run, place.scene, "-o", place.out],
    "parquet": lambda place: [
        *("predict", place.run, place.scene, "-o", place.out, "--format", "parquet"),
        *("--regularize-m", 2),
    ],
    "evaluate": lambda place: ["evaluate", place.run, place.catalog, "--domain", "alder_aerial"],
    "footprints": lambda place: [
        *("merge-footprints", place.world / "birch_aerial" / "footprints" / "*.gpkg"),
        *("-o", place.out / "town.gpkg"),
    ],
    "places": lambda place: [
        *("merge-footprints", place.world / "birch_aerial" / "footprints" / "*.gpkg"),
        *("-o", place.out / "town", "--crs", "EPSG:3857"),
    ],
    "changes": lambda place: [
        "compare",
        *(
            place.world / f"birch_{view}" / "footprints" / f"birch_{view}_00.gpkg"
            for view in ("aerial", "satellite")
        ),
        *("-o", place.out / "changes.gpkg", "--overture", place.out / "overture.parquet"),
    ],
    "report": lambda place: ["report", place.run, "-o", place.out / "report.html"],
    "analyze": lambda place: [
        *("analyze", place.run, place.catalog, "--domain", "alder_aerial", "--split", "train"),
        *("--images", 2, "-o", place.out / "features"),
    ],
    "merge": lambda place: [
        *("merge", place.run, place.adapted / "adapter.safetensors"),
        *("-o", place.out / "merged.safetensors"),
    ],
    "export": lambda place: ["export", place.run, "-o", place.out / "model.onnx"],
    "lab": lambda place: [
        *("lab", "parsimony", "--width", 12, "--rank", 2, "--depth", 3, "-o", place.out),
    ],
}
"""Commands that write files, by name; each may be repeated with ``--resume`` where it has it."""

RESUMABLE = ("train", "adapt", "predict", "parquet", "footprints", "places")
"""Commands that take ``--resume``."""
