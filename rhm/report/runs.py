"""Runs: the folders of evaluated runs from which a report is made.

``rhm evaluate`` writes ``evaluation/scores.json`` to the folder of a run. :func:`load_run` reads it
together with the training log, the cost and the configuration of the run. The files are not
trusted: types are checked, names are made printable, and no image outside the evaluation folder is
read.
"""

import base64
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from rhm.documents import parse_yaml
from rhm.errors import ConfigError, printable
from rhm.evaluation.score_files import read_scores
from rhm.evaluation.scores import DomainScores, Example, Scores, Shift
from rhm.training.callbacks.run_cost import Cost, read_cost
from rhm.training.callbacks.training_log import TrainingLog, read_log

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_WEBP_QUALITY = 85


@dataclass(frozen=True)
class EvaluatedRun:
    """An evaluated run: its folder, scores, training log, configuration (as text) and cost."""

    folder: Path
    scores: Scores
    log: TrainingLog
    config: str
    cost: Cost | None

    def domain(self, name: str, shift: Shift | None) -> DomainScores | None:
        """Return the scores on a domain under a shift or None; None if it was not scored."""
        return self._domains.get((name, shift))

    @cached_property
    def settings(self) -> dict[str, Any]:
        """The settings of the training by dotted name; none if the configuration is unreadable."""
        try:
            tree = parse_yaml(self.config)
        except ValueError:
            return {}
        return dict(_leaves(tree, "")) if isinstance(tree, dict) else {}

    @cached_property
    def _domains(self) -> dict[tuple[str, Shift | None], DomainScores]:
        # Of two of one name, the first counts.
        return {(each.name, each.shift): each for each in reversed(self.scores.domains)}


def _leaves(tree: dict[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


_OF_A_SEED = {
    *("name", "output", "seed", "data.catalog", "data.workers", "augment.bank", "adapter.base"),
    *("trainer.devices", "trainer.num_nodes", "trainer.trackers", "trainer.accelerator"),
    # An adaptation has these of its base, and facts of the models are compared with a tolerance.
    *("model.threshold", "data.gsd_m"),
}
"""Settings that may differ between the seeds of a method, each of which may have its own files."""

_RECORDS = "analysis."
_LONGEST_NAME = 60


def unlike_settings(runs: Sequence[EvaluatedRun]) -> list[str]:
    """Return the names of the settings in which seeds of one method differ, but for those of seeds.

    A setting that a configuration lacks, such as that of an earlier version, is unknown.
    """
    known = [run.settings for run in runs]
    names = dict.fromkeys(name for each in known for name in each)
    result = []
    for name in names:
        if name in _OF_A_SEED or name.startswith(_RECORDS):
            continue
        first, *others = (each[name] for each in known if name in each)
        if any(other != first and repr(other) != repr(first) for other in others):
            result.append(printable(name)[:_LONGEST_NAME])
    return result


def load_run(folder: Path) -> EvaluatedRun:
    """Read an evaluated run; see :func:`load_runs`."""
    return load_runs([folder])[0]


def load_runs(folders: Iterable[Path]) -> list[EvaluatedRun]:
    """Read evaluated runs.

    Domains of one name in several catalogs of a run are named with their catalogs in all runs.

    Args:
        folders: folders with ``evaluation/scores.json`` and, optionally, ``metrics.csv``,
            ``config.yaml`` and ``cost.json``.

    Raises:
        ConfigError: a folder has no scores, one of its files is malformed or cannot be read, or the
            picture of an example lies outside the evaluation folder.
    """
    runs = [_read_run(Path(folder)) for folder in folders]
    twice = {
        name
        for run in runs
        for (name, _), count in Counter(
            (each.name, each.shift) for each in run.scores.domains
        ).items()
        if count > 1
    }
    listed = {
        (domain.name, domain.catalog)
        for run in runs
        for domain in run.scores.domains
        if domain.name in twice
    }
    stems = Counter((name, Path(catalog).stem) for name, catalog in listed)

    def named(domain: DomainScores) -> DomainScores:
        if not os.path.exists(domain.catalog_file):
            # Of a run that was copied, it is not where the file says.
            domain = replace(domain, catalog_file="")
        if domain.name not in twice or not domain.catalog:
            return domain
        stem = Path(domain.catalog).stem
        told = stem if stems[domain.name, stem] == 1 else domain.catalog
        return replace(domain, name=f"{domain.name} ({told})")

    return [
        replace(run, scores=replace(run.scores, domains=tuple(map(named, run.scores.domains))))
        for run in runs
    ]


def _read_run(folder: Path) -> EvaluatedRun:
    scores = read_scores(folder / "evaluation")
    for domain in scores.domains:
        for example in domain.examples:
            _image_path(folder, example)
    config = folder / "config.yaml"
    try:
        text = config.read_text(encoding="utf-8", errors="replace") if config.is_file() else ""
    except OSError as error:
        raise ConfigError(f"{config} cannot be read: {error.strerror}") from error
    return EvaluatedRun(
        folder, scores, read_log(folder), printable(text, keep="\n"), read_cost(folder)
    )


def read_image(folder: Path, example: Example) -> str:
    """Return the picture of an example as a base64 WebP file, a tenth of the size of the PNG.

    Raises:
        ConfigError: the picture is missing, is no PNG that can be read, has another size than the
            scores say, or lies outside the evaluation folder.
    """
    path = _image_path(folder, example)
    # Unlike the method of a path, this takes a name that is too long for a file that is missing.
    if not os.path.isfile(path):
        raise ConfigError(f"{path} is missing: run `rhm evaluate` on {folder} again")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
    # The size is at a fixed position in a PNG file, so huge images need not be unpacked.
    size = tuple(int.from_bytes(data[start : start + 4], "big") for start in (16, 20))
    fits = data.startswith(_PNG_SIGNATURE) and size == (example.width, example.height)
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if fits else None
    if pixels is None:
        raise ConfigError(
            f"{path} is not a PNG image of {example.width} x {example.height} pixels: "
            f"run `rhm evaluate` on {folder} again"
        )
    _, packed = cv2.imencode(".webp", pixels, (cv2.IMWRITE_WEBP_QUALITY, _WEBP_QUALITY))
    return base64.b64encode(packed.tobytes()).decode("ascii")


def _image_path(folder: Path, example: Example) -> Path:
    evaluation = (folder / "evaluation").resolve()
    path = (evaluation / example.image).resolve()
    if not path.is_relative_to(evaluation):
        raise ConfigError(
            f"{folder}/evaluation/scores.json: image {example.image!r} lies outside the evaluation "
            "folder: run `rhm evaluate` on this run again"
        )
    return path
