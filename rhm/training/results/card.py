"""Model cards in Markdown: what a model is, what it was trained on, and what it is suitable for.

They follow Mitchell et al., Model cards for model reporting (FAT* 2019), and Gebru et al.,
Datasheets for datasets (CACM 64(12), 2021), as far as a run knows the answers.
"""

import re
from collections.abc import Iterable
from typing import Any

from rhm.models.spec import ModelSpec
from rhm.training.config import RunConfig
from rhm.training.imagery import Material
from rhm.training.unlabelled.target_config import MEASURED


def model_card(
    spec: ModelSpec, config: RunConfig, material: Material, scores: dict[str, float]
) -> str:
    """Return the model card of a run.

    Args:
        spec: description of the finished model.
        config: configuration of the run.
        material: imagery that the model was trained on.
        scores: validation scores of the kept checkpoint, by name; may be empty.
    """
    gsd = "an unknown ground sampling distance"
    if spec.gsd_m is not None:
        gsd = f"a ground sampling distance of {spec.gsd_m:.3g} m"
    parts = [
        f"# {_plain(config.name)}",
        f"Finds buildings in imagery with {spec.bands} bands and {gsd}: "
        f"{_code(spec.architecture)} with the encoder {_code(spec.encoder)}, trained by rhm "
        f"{spec.rhm_version}.",
        "## Use",
        "    rhm predict MODEL SCENE.tif -o predicted",
        "MODEL is the folder that this file is in, or the name under which it was added.",
        _bullets(_uses(spec, config, scores)),
        "## Training",
        _table(("", ""), _training(spec, config, material)),
        "## Scores",
        _scored(scores),
        "## Data",
        "Images that show the same ground form a group, and are all in the same split (hash of the "
        f"splits: {_code(material.catalog.split_hash())}). {_licence(spec, config)}",
        _data(material),
        "## Limits",
        _bullets(_limits(spec)),
    ]
    return "\n\n".join(parts) + "\n"


def _licence(spec: ModelSpec, config: RunConfig) -> str:
    if not spec.licence:
        return "The licences of the imagery's sources apply."
    if config.adapter.base is not None and not config.data.licence:
        return (
            f"Licence of imagery and labels of the base model: {_code(spec.licence)}. Those of the "
            "sources of the imagery that it was adapted to apply, too."
        )
    return f"Licence of imagery and labels: {_code(spec.licence)}."


def _uses(spec: ModelSpec, config: RunConfig, scores: dict[str, float]) -> Iterable[str]:
    for dtype, scaling in spec.scalings.items():
        ranges = ", ".join(
            f"{low:.6g} to {high:.6g}" for low, high in zip(scaling.low, scaling.high, strict=True)
        )
        yield f"Values of {_code(dtype)} imagery from black to white, band by band: {ranges}."
    if config.model.threshold is not None:
        origin = "is set in the configuration"
    elif config.target.source_free:
        origin = (
            "has the highest expected IoU on unlabelled images of the target, or is that of the "
            "base model if these show too few buildings"
        )
    elif scores:
        origin = "was chosen on the validation images"
    else:
        origin = "is the default, because there were no validation images to choose it on"
    yield (
        f"A pixel counts as building if its probability is at least {spec.threshold:.3g}. "
        f"This threshold {origin}."
    )
    if len(spec.classes) > 1:
        classes = ", ".join(map(_code, spec.classes))
        yield f"Its classes are {classes}, by which it separates buildings."
    if spec.score_calibration is not None:
        yield (
            "The score of a footprint is the precision of such footprints at IoU 0.5, measured on "
            f"{spec.score_calibration.total} footprints of the validation images."
        )
    if spec.gsd_m is not None:
        yield "Scenes of a different resolution are resampled for the prediction."


def _training(
    spec: ModelSpec, config: RunConfig, material: Material
) -> Iterable[tuple[str, object]]:
    yield "domains", ", ".join(map(_code, spec.sources))
    yield "images", f"{len(material.train)} for training, {len(material.val)} for validation"
    if config.target.method not in MEASURED:
        yield from _steps(config)
    if material.bank is not None:
        yield "histogram bank", f"{len(material.bank)} images"
    if material.unlabelled:
        seen = ", ".join(map(_code, dict.fromkeys(tile.domain for tile in material.unlabelled)))
        yield "unlabelled images", f"{len(material.unlabelled)} of {seen}"
        yield "method without labels", _code(config.target.method)
    if spec.standardize != "none":
        yield "standardisation of scenes", _code(spec.standardize)
    if config.adapter.base is not None:
        yield "base model", _code(config.adapter.base)
        if config.target.method not in MEASURED:
            yield "adaptation method", _code(config.adapter.method)
    elif config.model.weights not in ("bundled", "none"):
        yield "encoder weights", _code(config.model.weights)
    yield "seed", config.seed


def _steps(config: RunConfig) -> Iterable[tuple[str, object]]:
    side = config.data.chip_px
    yield "chips", f"{side} x {side} pixels, {config.trainer.batch_size} per step"
    yield "steps", config.trainer.steps
    yield "colour augmentation", _code(config.augment.colour)
    if unusual := config.augment.unusual_geometry:
        yield "geometric augmentation", ", ".join(map(_code, unusual))
    yield "loss", _code(config.loss.name)
    yield "learning rate", f"{config.optimizer.learning_rate:g}"


def _scored(scores: dict[str, float]) -> str:
    if not scores:
        return "There were no validation images."
    rows = [(name, f"{value:.3f}") for name, value in scores.items()]
    return f"On the validation images of the training domains:\n\n{_table(('', ''), rows)}"


def _data(material: Material) -> str:
    columns = ("domain", "images", "labelled", "train", "val", "test", "gsd_m", "buildings")
    seen = {tile.domain for tile in (*material.train, *material.val, *material.unlabelled)}
    used = material.catalog.select(domains=sorted(seen))
    rows = []
    for row in used.overview():
        cells = [row[name] for name in columns]
        cells[0] = _code(str(cells[0]))
        cells[-2] = "" if cells[-2] is None else f"{cells[-2]:.3g}"
        cells[-1] = "" if cells[-1] is None else f"{cells[-1]:.1%}"
        rows.append(cells)
    titles = (*columns[:-2], "GSD (m)", "building pixels")
    return _table(titles, rows)


def _limits(spec: ModelSpec) -> Iterable[str]:
    domains = ", ".join(map(_code, spec.sources))
    yield (
        f"The training imagery shows {domains} and nothing else. "
        "`rhm data inspect SCENE.tif --model MODEL` says how different a scene is, and "
        "`rhm evaluate` on a few labelled images of a place says how well the model works there."
    )
    if spec.gsd_m is not None:
        small = f"{20 * spec.gsd_m**2:.3g} square metres"
        yield f"Buildings smaller than {small} cover only a few pixels."
    yield (
        "Probabilities are only as reliable as the scene is similar to the validation images. "
        "Footprints show where the model sees buildings; they are not a record of property."
    )


def _table(titles: Iterable[object], rows: Iterable[Iterable[object]]) -> str:
    titles = list(titles)
    lines: list[Iterable[object]] = [titles, ["---"] * len(titles), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def _bullets(items: Iterable[str]) -> str:
    return "\n".join(f"- {item}" for item in items)


def _code(text: str) -> str:
    """Return the text as inline code that no character of the text can end."""
    return f"`{_plain(text)}`"


def _plain(text: Any) -> str:
    return re.sub(r"[`|<>\[\]\x00-\x1f\x7f]", "?", str(text))
