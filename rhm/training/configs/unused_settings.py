"""Settings of a configuration that change nothing beside others."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from rhm.training.config import RunConfig

Condition = Callable[["RunConfig"], bool]


class _Rule(NamedTuple):
    """When some settings of a section count."""

    section: str
    settings: tuple[str, ...]
    needs: str
    counts: Condition


def unused_settings(config: "RunConfig") -> Iterator[str]:
    """Yield the settings that differ from their defaults and change nothing, with what they need.

    Whoever compares runs would take the noise between them for the effect of such a setting. Those
    that belong to an augmentation, a target method, classes or a low-rank update are no fault where
    there is none at all, because a run to compare with has the settings of the others.
    """
    for rule in _RULES:
        section = getattr(config, rule.section)
        if rule.counts(config):
            continue
        for name in rule.settings:
            # The default of a field is an attribute of its class.
            if getattr(section, name) != getattr(type(section), name):
                yield f"{rule.section}.{name} needs {rule.needs}"


def _colour(*names: str) -> Condition:
    def used(config: "RunConfig") -> bool:
        chosen = {name for chain in config.augment.chains for name in chain}
        return chosen == {"none"} or bool(chosen & set(names))

    return used


def _target(*names: str) -> Condition:
    return lambda config: config.target.method in ("none", *names)


_RULES = (
    _Rule("augment", ("blend", "per_band"), "augment.colour rhm", _colour("rhm")),
    _Rule("augment", ("statistics",), "augment.colour rhm or mean-std", _colour("rhm", "mean-std")),
    _Rule("augment", ("beta",), "augment.colour fda or spectrum", _colour("fda", "spectrum")),
    _Rule("augment", ("shifts",), "augment.colour shift", _colour("shift")),
    _Rule("augment", ("targets",), "augment.colour fda", _colour("fda")),
    _Rule("loss", ("focal_gamma",), "a focal loss", lambda c: "focal" in c.loss.name),
    _Rule("loss", ("tversky_alpha",), "loss.name tversky", lambda c: c.loss.name == "tversky"),
    _Rule("loss", ("boundary_px",), "loss.boundary_weight", lambda c: c.loss.boundary_weight > 0.0),
    _Rule(
        "data",
        ("contact_px",),
        "model.separation contact",
        # A base has its own classes.
        lambda c: c.adapter.base is not None or c.model.separation != "boundary",
    ),
    _Rule(
        "adapter",
        ("depth", "init_scale", "outer_lr_ratio", "gradient_batches"),
        "adapter.method deep-lora",
        lambda c: c.adapter.method != "lora",
    ),
    _Rule("target", ("features",), "target.method coral", _target("coral")),
    _Rule(
        "target",
        ("discriminator_rate", "discriminator_width"),
        "target.method adversarial",
        _target("adversarial"),
    ),
    _Rule(
        "target",
        ("decay", "teacher_statistics", "certainty", "paste"),
        "target.method mean-teacher",
        _target("mean-teacher"),
    ),
    _Rule(
        "target",
        ("paste_margin_px",),
        "target.paste",
        lambda c: c.target.method == "none" or c.target.paste != "none",
    ),
    _Rule("target", ("building_share",), "target.method shot", _target("shot")),
)
