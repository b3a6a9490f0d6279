"""What ``new_city.py`` compares: ways to train a model for a city without labels."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from rhm.augmentation.colours import SOURCES_BANK

ADABN_CHIPS = 256
AVERAGE = 0.6
RHM = {"colour": "rhm", "p": 1.0, "sampling": "domain"}
FDA = {"colour": "fda", "p": 1.0}
SPECTRUM = {"colour": "spectrum", "p": 1.0, "sampling": "domain"}
BOTH = RHM | {"colour": "rhm + spectrum"}
EITHER = RHM | {"colour": "rhm | fda"}
ALTERNATE = RHM | {"colour": "rhm | spectrum"}
ZOOM = {"geometry": {"scale": [0.6, 1.6]}}


@dataclass(frozen=True)
class Method:
    """A way to train a model.

    Attributes:
        augment: section ``augment``.
        target: section ``target`` without its domains.
        longer: factor of the number of steps.
        base: name of the method whose finished models are adapted to each target, without their
            source; empty if models are trained from the start.
        adapter: section ``adapter`` of such an adaptation, without its base; empty if the models
            are used as they are.
        views: whether prediction averages over rotated and mirrored views.
        average: last part of the run over whose weights the model is averaged, while the learning
            rate stays constant.
        model: section ``model``.
    """

    augment: dict[str, Any]
    target: dict[str, Any]
    longer: int = 1
    base: str = ""
    adapter: dict[str, Any] = field(default_factory=dict)
    views: bool = False
    average: float = 0.0
    model: dict[str, Any] = field(default_factory=dict)


def _of(augment: dict[str, Any] | None = None, longer: int = 1, **target: Any) -> Method:
    return Method(augment or {}, target, longer)


def _after(base: str, method: str, train: str, **adapter: Any) -> Method:
    """Return the adaptation of a method's finished models to each target alone."""
    target = {"method": method, "source_free": True, "chips": ADABN_CHIPS}
    sections = {"method": train, "batch_norm": "statistics", **adapter}
    augment = {"colour": "rhm", "bank": SOURCES_BANK, "p": 1.0} if method == "mean-teacher" else {}
    return Method(augment, target, base=base, adapter=sections)


def _viewed(base: str) -> Method:
    """Return the prediction of a method's finished models with test-time augmentation."""
    return Method({}, {}, base=base, views=True)


def _averaged(augment: dict[str, Any] | None = None, longer: int = 1) -> Method:
    """Return a method whose models are means over the last part of their training."""
    return Method(augment or {}, {}, longer, average=AVERAGE)


def _cosine(augment: dict[str, Any] | None = None) -> Method:
    """Return a method whose models classify by the angle between features and classifier rows."""
    return Method(augment or {}, {}, model={"head": "cosine"})


METHODS: dict[str, Method] = {
    "none": _of(),
    "none, 2x": _of(longer=2),
    "rhm": _of(RHM),
    "rhm, 2x": _of(RHM, longer=2),
    "fda": _of(FDA),
    "fda, 2x": _of(FDA, longer=2),
    "spectrum": _of(SPECTRUM),
    "rhm + spectrum": _of(BOTH),
    "scale": _of(ZOOM),
    "rhm + scale": _of(RHM | ZOOM),
    "rhm + scale, 2x": _of(RHM | ZOOM, longer=2),
    "fda + scale": _of(FDA | ZOOM),
    "fda + scale, 2x": _of(FDA | ZOOM, longer=2),
    "spectrum + scale": _of(SPECTRUM | ZOOM),
    "rhm + spectrum + scale": _of(BOTH | ZOOM),
    "rhm or fda, + scale": _of(EITHER | ZOOM),
    "rhm or spectrum, + scale": _of(ALTERNATE | ZOOM),
    "rhm + jitter + scale": _of(RHM | {"colour": "rhm + color-jitter"} | ZOOM),
    "rhm or fda or jitter, + scale": _of(RHM | {"colour": "rhm | fda | color-jitter"} | ZOOM),
    "rhm or fda, + mixstyle + scale": _of(EITHER | {"mixstyle": 0.5} | ZOOM),
    "rhm or spectrum, + scale + entropy": _of(ALTERNATE | ZOOM, method="entropy", weight=0.01),
    "entropy": _of(method="entropy", weight=0.01),
    "coral": _of(method="coral"),
    "adversarial": _of(method="adversarial", weight=0.01),
    "mean-teacher": _of(method="mean-teacher"),
    # Both places in one batch, so that batch normalisation aligns them, too.
    "entropy, shared": _of(method="entropy", weight=0.01, statistics="shared"),
    "coral, shared": _of(method="coral", statistics="shared"),
    "adversarial, shared": _of(method="adversarial", weight=0.01, statistics="shared"),
    "mean-teacher, shared": _of(method="mean-teacher", statistics="shared"),
    "scale + mean-teacher": _of(ZOOM, method="mean-teacher"),
    "spectrum + scale + mean-teacher": _of(SPECTRUM | ZOOM, method="mean-teacher"),
    "rhm + entropy": _of(RHM, method="entropy", weight=0.01),
    "rhm + coral": _of(RHM, method="coral"),
    "rhm + adversarial": _of(RHM, method="adversarial", weight=0.01),
    "rhm + mean-teacher": _of(RHM, method="mean-teacher"),
    "rhm + scale + entropy": _of(RHM | ZOOM, method="entropy", weight=0.01),
    "rhm + scale + mean-teacher": _of(RHM | ZOOM, method="mean-teacher"),
    "rhm + spectrum + scale + mean-teacher": _of(BOTH | ZOOM, method="mean-teacher"),
    "rhm or fda, + scale + mean-teacher": _of(EITHER | ZOOM, method="mean-teacher"),
    "none, averaged": _averaged(),
    "rhm, averaged": _averaged(RHM),
    "rhm + scale, averaged": _averaged(RHM | ZOOM),
    "spectrum, averaged": _averaged(SPECTRUM),
    "spectrum + scale, averaged": _averaged(SPECTRUM | ZOOM),
    "spectrum + scale, averaged, 2x": _averaged(SPECTRUM | ZOOM, 2),
    "none, cosine": _cosine(),
    "spectrum + scale, cosine": _cosine(SPECTRUM | ZOOM),
    "none, views": _viewed("none"),
    "spectrum + scale, views": _viewed("spectrum + scale"),
    "none, then adabn": _after("none", "adabn", "batch-norm"),
    "rhm, then adabn": _after("rhm", "adabn", "batch-norm"),
    "rhm + scale, then adabn": _after("rhm + scale", "adabn", "batch-norm"),
    "rhm + scale, then entropy": _after(
        "rhm + scale", "entropy", "batch-norm", batch_norm="affine"
    ),
    "rhm + scale, then shot": _after("rhm + scale", "shot", "deep-lora", trained=[]),
    "rhm + scale, then mean-teacher": _after(
        "rhm + scale", "mean-teacher", "deep-lora", trained=[]
    ),
}
"""What is compared, by its name in the tables."""


def file_stem(source: str, method: str, seed: int, chosen: Sequence[str] = ()) -> str:
    """Return the name of the files of a cell, without their endings."""
    return re.sub(r"[^\w.=-]+", "_", f"{source}.{' '.join([method, *chosen])}.{seed}")
