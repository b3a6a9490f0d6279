"""The card of a model: what it is, what it learnt from, and what it is good for, in Markdown.

After Mitchell et al., Model cards for model reporting (FAT* 2019), and Gebru et al., Datasheets for
datasets (CACM 64(12), 2021): as much of them as a run knows.
"""

import re
from collections.abc import Iterable
from typing import Any

from rhm.data.summary import overview
from rhm.models.spec import ModelSpec
from rhm.training.config import RunConfig
from rhm.training.imagery import Material


def model_card(
    spec: ModelSpec, config: RunConfig, material: Material, scores: dict[str, float]
) -> str:
    """Return a run's card.

    Args:
        spec: of the finished model.
        config: of the run.
        material: that it was trained on.
        scores: of the kept checkpoint on validation images, by name; may be empty.
    """
    resolution = "unknown resolution" if spec.gsd_m is None else f"{spec.gsd_m:.3g} m a pixel"
    parts = [
        f"# {_plain(config.name)}",
        f"Finds buildings in imagery of {spec.bands} bands at {resolution}: "
        f"{_code(spec.architecture)} with the encoder {_code(spec.encoder)}, trained by rhm "
        f"{spec.rhm_version}.",
        "## Using it",
        f"    rhm predict {_plain(str(config.folder))} SCENE.tif -o predicted",
        _bullets(_uses(spec, config, scores)),
        "## Training",
        _table(("", ""), _training(spec, config, material)),
        "## Scores",
        _scored(scores),
        "## Data",
        f"Split {_code(material.catalog.split_hash())}, by group of images that show the same "
        f"ground. {_licence(spec)}",
        _data(material),
        "## Limits",
        _bullets(_limits(spec)),
    ]
    return "\n\n".join(parts) + "\n"


def _licence(spec: ModelSpec) -> str:
    if not spec.licence:
        return "The licences are those of the imagery's own sources."
    return f"Licence of imagery and labels: {_code(spec.licence)}."


def _uses(spec: ModelSpec, config: RunConfig, scores: dict[str, float]) -> Iterable[str]:
    for dtype, scaling in spec.scalings.items():
        ranges = ", ".join(
            f"{low:.6g} to {high:.6g}" for low, high in zip(scaling.low, scaling.high, strict=True)
        )
        yield f"Imagery of {_code(dtype)} is seen from black to white as {ranges}, band by band."
    if config.model.threshold is not None:
        why = "as the configuration has it"
    else:
        why = "chosen on validation images" if scores else "which nothing was there to choose by"
    yield f"A pixel is building from a probability of {spec.threshold:.3g}, {why}."
    if spec.gsd_m is not None:
        yield "A scene of another resolution is better predicted with `--resample`."


def _training(
    spec: ModelSpec, config: RunConfig, material: Material
) -> Iterable[tuple[str, object]]:
    yield "domains", ", ".join(map(_code, spec.sources))
    yield "images", f"{len(material.train)}, and {len(material.val)} to validate"
    yield "chips", f"{config.data.chip_px} pixels a side, {config.trainer.batch_size} a step"
    yield "steps", config.trainer.steps
    yield "colour augmentation", _code(config.augment.colour)
    if unusual := config.augment.unusual_geometry:
        yield "geometric augmentation", ", ".join(map(_code, unusual))
    if material.bank is not None:
        yield "histogram bank", f"{len(material.bank)} images"
    if spec.standardize != "none":
        yield "scenes are standardised", _code(spec.standardize)
    if config.adapter.base is not None:
        method = f"{_code(config.adapter.method)} of {_code(config.adapter.base)}"
        yield "adapted by", method
    yield "loss", _code(config.loss.name)
    yield "learning rate", f"{config.optimizer.learning_rate:g}"
    yield "seed", config.seed


def _scored(scores: dict[str, float]) -> str:
    if not scores:
        return "There were no validation images."
    rows = [(name, f"{value:.3f}") for name, value in scores.items()]
    seen = "On the validation images of the domains that it was trained on:"
    return f"{seen}\n\n{_table(('', ''), rows)}"


def _data(material: Material) -> str:
    columns = ("domain", "images", "labelled", "train", "val", "test", "gsd_m", "buildings")
    used = material.catalog.select(domains=list({tile.domain for tile in material.train}))
    rows = []
    for row in overview(used):
        shown = [row[name] for name in columns]
        shown[0] = _code(str(shown[0]))
        shown[-1] = "" if shown[-1] is None else f"{shown[-1]:.1%}"
        rows.append(["" if each is None else each for each in shown])
    titles = (*columns[:-2], "m a pixel", "built over")
    return _table(titles, rows)


def _limits(spec: ModelSpec) -> Iterable[str]:
    domains = ", ".join(map(_code, spec.sources))
    yield (
        f"It has seen {domains} and nothing else. How far a scene is from that is said by "
        "`rhm data inspect SCENE.tif --model MODEL`; what comes of it, by `rhm evaluate` on a few "
        "labelled images of the place."
    )
    if spec.gsd_m is not None:
        yield f"Buildings of less than {20 * spec.gsd_m**2:.3g} square metres are a few pixels."
    yield (
        "Probabilities are as good as the validation images are like the scene; footprints are "
        "where the model sees buildings, which is no record of property."
    )


def _table(titles: Iterable[object], rows: Iterable[Iterable[object]]) -> str:
    titles = list(titles)
    lines: list[Iterable[object]] = [titles, ["---"] * len(titles), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def _bullets(items: Iterable[str]) -> str:
    return "\n".join(f"- {item}" for item in items)


def _code(text: str) -> str:
    """Return text as code that nothing in it can end."""
    return f"`{_plain(text)}`"


def _plain(text: Any) -> str:
    return re.sub(r"[`|<>\[\]\x00-\x1f\x7f]", "?", str(text))
