"""The section ``target`` of a configuration: unlabelled imagery, and what is learned from it.

To add a method, write its ``TargetMethod`` in a file of its own and add an entry to ``METHODS``; a
new setting is a field of ``TargetConfig``.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from rhm.data.catalog import SPLITS
from rhm.models.build import SegmentationModel
from rhm.training.unlabelled.adversarial import AdversarialOutputs
from rhm.training.unlabelled.coral import CorrelationAlignment
from rhm.training.unlabelled.entropy import EntropyMinimisation
from rhm.training.unlabelled.information import InformationMaximisation
from rhm.training.unlabelled.mean_teacher import MeanTeacher
from rhm.training.unlabelled.pasting import PASTES
from rhm.training.unlabelled.target_method import OWN, RUNNING, STATISTICS, TargetMethod

LEARNING_RATES = {"deep-lora": 1e-3, "lora": 1e-4, "bitfit": 1e-3, "batch-norm": 1e-3, "full": 1e-4}
"""Default learning rate of ``rhm adapt --unlabelled`` for what is trained."""

ADABN = "adabn"
"""Name of the method that measures statistics and trains nothing."""

THRESHOLD = "threshold"
"""Name of the method that chooses the threshold and changes nothing else."""

MEASURED = (ADABN, THRESHOLD)
"""Methods that train nothing."""

LABELLED, ALONE = "labelled chips", "a finished model"

EVERY_SPLIT = "all"
"""Name in place of a split: the images of all splits."""


@dataclass(frozen=True)
class TargetConfig:
    """Unlabelled imagery of the target domain, and the method that learns from it.

    The labels of these images, if they have any, are never read.

    Attributes:
        domains: domains of the catalog whose images are seen without their labels.
        split: split of these images, or ``all``. With the default, ``train``, no image is seen that
            is tested on.
        method: one of ``METHODS``.
        source_free: whether a finished model is adapted with unlabelled chips alone.
        chips: largest number of chips, spread evenly over the images, that statistics are measured
            on; null uses all.
        weight: weight of the method's loss beside the loss of the labelled chips; null uses that of
            the method, or 1 without labelled chips.
        warmup: share of the steps over which the weight rises from zero; null uses that of the
            method, or 0 without labelled chips.
        statistics: what batch normalisation does with unlabelled chips beside labelled ones, one of
            ``target_method.STATISTICS``; null uses that of the method.
        features: setting of ``coral``: layers whose features are aligned, as ``rhm analyze`` names
            them: ``encoder[1]`` to ``encoder[5]``, ``decoder``.
        discriminator_rate: setting of ``adversarial``: learning rate of the discriminator.
        discriminator_width: setting of ``adversarial``: channels of its first layer.
        decay: setting of ``mean-teacher``: weight of the teacher in its average with the student.
        teacher_statistics: setting of ``mean-teacher``: how batch normalisation treats the chips
            that the teacher sees beside labelled ones, ``own`` or ``running``, as for
            ``statistics``.
        certainty: setting of ``mean-teacher``: share of the way from the cut to certainty that a
            pixel must go for a label; 0 labels every pixel.
        paste: setting of ``mean-teacher``: what is pasted from the labelled chips, one of
            ``PASTES``.
        building_share: setting of ``shot``: expected share of building pixels; null uses the mean
            probability of the model before the first step.
        paste_margin_px: setting of ``mean-teacher``: width of the surroundings that are pasted with
            a building, in pixels.
    """

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    domains: tuple[str, ...] = ()
    split: str = "train"
    method: str = "none"
    source_free: bool = False
    chips: int | None = None
    weight: float | None = None
    warmup: float | None = None
    statistics: str | None = None
    features: tuple[str, ...] = ("decoder",)
    discriminator_rate: float = 1e-4
    discriminator_width: int = 64
    decay: float = 0.99
    teacher_statistics: str = OWN
    certainty: float = 0.5
    paste: str = "none"
    paste_margin_px: int = 0
    building_share: float | None = None

    def __post_init__(self) -> None:
        splits = (*SPLITS, EVERY_SPLIT)
        for name, choices in (("method", METHODS), ("split", splits), ("paste", PASTES)):
            if getattr(self, name) not in choices:
                raise ValueError(
                    f"unknown {name} '{getattr(self, name)}': choose {', '.join(choices)}"
                )
        if self.statistics not in (None, *STATISTICS):
            known = ", ".join(STATISTICS)
            raise ValueError(f"unknown statistics '{self.statistics}': choose {known}")
        if self.teacher_statistics not in (OWN, RUNNING):
            raise ValueError(
                f"unknown teacher_statistics '{self.teacher_statistics}': choose {OWN}, {RUNNING}"
            )
        if self.statistics is not None and METHODS[self.method].build is None:
            raise ValueError(f"method {self.method} has no statistics: leave them out")
        if self.method != "none" and not self.domains:
            raise ValueError(f"method {self.method} needs unlabelled images: give target.domains")
        self._check_numbers()
        self._check_labels()
        if not self.features:
            raise ValueError("features must name at least one layer")

    def _check_labels(self) -> None:
        needs = METHODS[self.method].needs
        if self.source_free and (needs == LABELLED or self.method == "none"):
            alone = [
                name for name, each in METHODS.items() if each.build and each.needs != LABELLED
            ]
            raise ValueError(
                f"method {self.method} needs labelled chips: choose "
                f"{', '.join([*alone, *MEASURED])}, or leave out source_free"
            )
        if not self.source_free and needs == ALONE:
            raise ValueError(
                f"method {self.method} adapts a finished model: set source_free, or run "
                "`rhm adapt --unlabelled`"
            )
        for name, unset in (("paste", "none"), ("statistics", None)):
            if self.source_free and getattr(self, name) != unset:
                raise ValueError(f"{name} needs labelled chips: leave it out with source_free")

    def _check_numbers(self) -> None:
        if self.weight is not None and not 0 < self.weight < 1e6:
            raise ValueError("weight must be above 0 and below 1e6, or null")
        if self.warmup is not None and not 0 <= self.warmup <= 1:
            raise ValueError("warmup must be a share in [0, 1], or null")
        for name in ("decay", "certainty"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 0 and below 1")
        if not 0 < self.discriminator_rate < 10 or not 1 <= self.discriminator_width <= 1024:
            raise ValueError(
                "discriminator_rate must be between 0 and 10, discriminator_width from 1 to 1024"
            )
        if self.chips is not None and self.chips < 1:
            raise ValueError("chips must be at least 1, or null")
        if self.building_share is not None and not 0 < self.building_share < 1:
            raise ValueError("building_share must be between 0 and 1, or null")
        if not 0 <= self.paste_margin_px <= 64:
            raise ValueError("paste_margin_px must be from 0 to 64")

    @property
    def names(self) -> tuple[str, ...]:
        """Names in reports: the method, if there is one, and statistics that are not its own."""
        if self.method == "none":
            return ()
        kind = self.statistics_used
        if kind == METHODS[self.method].statistics:
            return (self.method,)
        return self.method, f"{kind} statistics"

    @property
    def statistics_used(self) -> str:
        """One of ``target_method.STATISTICS``: the chosen one, or that of the method."""
        return self.statistics or METHODS[self.method].statistics

    def build(self, model: SegmentationModel, loss: nn.Module) -> TargetMethod | None:
        """Return the method for a network and its loss on labelled chips, or None."""
        made = METHODS[self.method].build
        return None if made is None else made(self, model, loss)

    def weight_at(self, step: int, steps: int) -> float:
        """Return the weight of the method's loss at a step, counted from 0, of a number of steps.

        It rises linearly over the warm-up, and is constant afterwards.
        """
        entry = METHODS[self.method]
        usual = (1.0, 0.0) if self.source_free else (entry.weight, entry.warmup)
        weight = usual[0] if self.weight is None else self.weight
        warmup = usual[1] if self.warmup is None else self.warmup
        return weight * min(1.0, (step + 1) / max(1.0, warmup * steps))


@dataclass(frozen=True)
class UnlabelledMethod:
    """A method that a configuration can name.

    Attributes:
        text: description of the method, in one line.
        build: function that builds the method from its settings, the network and its loss.
        weight: default weight of its loss.
        warmup: default share of the steps over which the weight rises.
        strong: whether chips are also needed in other colours.
        statistics: what batch normalisation does with unlabelled chips, one of
            ``target_method.STATISTICS``, unless the configuration says.
        needs: ``LABELLED`` if the method needs labelled chips beside the unlabelled ones, ``ALONE``
            if it adapts a finished model without them; empty if it works with and without.
        keeps_head: whether the segmentation head must stay as it is.
    """

    text: str
    build: Callable[[TargetConfig, SegmentationModel, nn.Module], TargetMethod] | None = None
    weight: float = 1.0
    warmup: float = 0.0
    strong: bool = False
    statistics: str = OWN
    needs: str = ""
    keeps_head: bool = False


def _mean_teacher(config: TargetConfig, model: SegmentationModel, loss: nn.Module) -> TargetMethod:
    return MeanTeacher(
        model,
        loss,
        decay=config.decay,
        certainty=config.certainty,
        paste=config.paste,
        margin_px=config.paste_margin_px,
        statistics=config.statistics_used,
        teacher_statistics=config.teacher_statistics,
    )


_MEASURED_WEIGHT = 1e-2
"""Ten times that of the papers, whose training is hundreds of times as long: the better of the two
on the places that settings are chosen on (docs/benchmarks.md, "A new city without labels")."""

METHODS = {
    "none": UnlabelledMethod("unlabelled images are not trained on"),
    "entropy": UnlabelledMethod(
        "entropy minimisation: certain predictions on the target (Vu et al., CVPR 2019)",
        lambda config, model, loss: EntropyMinimisation(config.statistics_used),
        weight=_MEASURED_WEIGHT,
    ),
    "coral": UnlabelledMethod(
        "Deep CORAL: equal covariances of the features (Sun, Saenko, ECCV Workshops 2016)",
        lambda config, model, loss: CorrelationAlignment(config.features, config.statistics_used),
        needs=LABELLED,
    ),
    "adversarial": UnlabelledMethod(
        "a discriminator of source and target outputs (AdaptSegNet, Tsai et al., CVPR 2018)",
        lambda config, model, loss: AdversarialOutputs(
            1,  # whatever the classes of the network, it sees the probability of building
            width=config.discriminator_width,
            learning_rate=config.discriminator_rate,
            statistics=config.statistics_used,
        ),
        weight=_MEASURED_WEIGHT,
        needs=LABELLED,
    ),
    "mean-teacher": UnlabelledMethod(
        "self-training with a moving average of the network (DACS, Tranheden et al., WACV 2021)",
        _mean_teacher,
        warmup=0.5,
        strong=MeanTeacher.strong,
        statistics=RUNNING,
    ),
    "shot": UnlabelledMethod(
        "sure predictions with the expected share of buildings (SHOT, Liang et al., ICML 2020)",
        lambda config, model, loss: InformationMaximisation(config.building_share),
        needs=ALONE,
        keeps_head=True,
    ),
    THRESHOLD: UnlabelledMethod(
        "the threshold with the highest expected IoU on the target; no weight changes", needs=ALONE
    ),
    ADABN: UnlabelledMethod(
        "statistics of batch normalisation, measured on the target (Li et al., 2016)", needs=ALONE
    ),
}
"""Methods that learn from unlabelled imagery, by their names in a configuration."""
