"""The results of inspecting the features of a model."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from rhm.analysis.depth_trends import Fit
from rhm.analysis.domains import VarianceShares


@dataclass(frozen=True)
class StageStatistics:
    """Statistics of one stage in one domain.

    Attributes:
        model: name of the model.
        stage: name of the stage.
        number: number of the stage in the order of computation, from 0.
        part: part of the network, ``encoder`` or ``decoder``: the beginning of the name.
        channels: number D of channels.
        stride: side of a cell in input pixels.
        domain: domain of the images.
        trained_on: whether the model was trained on this domain.
        comparable: whether the stage samples the same squares of ground as all finer stages.
        cells: number of sampled cells of each class.
        compression: compression C_l, with equal weights of the classes.
        discrimination: discrimination D_l.
        nc1: neural collapse NC1, tr(Sigma_W Sigma_B^+) / K.
        stable_rank: stable rank of the features.
        numerical_rank: numerical rank of the features.
        probe: balanced accuracy of a linear probe fitted on other images of this domain.
        probe_error: standard error of that accuracy over groups of images; NaN if cells of a class
            are from hardly more than one.
        transfer: balanced accuracy of the probe fitted on the training domains.
        shift: for each class, distance of its mean from that in the training domains, in units
            of the spread within classes.
        advance: for each class, how far its mean has moved from its own class towards another
            class of the training domains, as a share of the way; the maximum over the others.
    """

    model: str
    stage: str
    number: int
    part: str
    channels: int
    stride: int
    domain: str
    trained_on: bool
    comparable: bool
    cells: Mapping[str, int]
    compression: float
    discrimination: float
    nc1: float | None
    stable_rank: float | None
    numerical_rank: int | None
    probe: float
    probe_error: float
    transfer: float
    shift: Mapping[str, float]
    advance: Mapping[str, float]


@dataclass(frozen=True)
class StageVariance:
    """The components of the variance of a stage over all domains."""

    model: str
    stage: str
    number: int
    shares: VarianceShares


@dataclass(frozen=True)
class LastFeatures:
    """Neural collapse of the input features of the classifier, in one domain.

    Features, and the rows of the classifier, are as they act: of length 1 with a cosine head.
    With a single logit NC2 is always zero, because two opposite rows form a simplex.
    """

    model: str
    domain: str
    nc1: float | None
    nc2: float | None
    nc3: float | None
    nc3_centered: float | None
    self_duality: float | None
    nc4: float


@dataclass(frozen=True)
class DepthFit:
    """A line fitted to log C_l or D_l over the numbers of the stages in one part of the network."""

    model: str
    domain: str
    part: str
    quantity: str
    fit: Fit


@dataclass(frozen=True)
class BestTap:
    """The best stage for transfer: the one with the best linear probes in unseen domains.

    Only stages that sample the same squares of ground are compared.

    Attributes:
        model: name of the model.
        stage: name of the stage.
        away: whether the domains are unseen rather than training domains.
        probe: balanced accuracy of probes that were fitted in each domain, averaged over domains.
        last: balanced accuracy at the last stage.
        margin: lead from which on it is clear that a stage is better than the last one; NaN with
            too few images to tell.
    """

    model: str
    stage: str
    away: bool
    probe: float
    last: float
    margin: float

    @property
    def clear(self) -> bool:
        """Whether the stage is clearly better than the last one."""
        return self.probe - self.last > self.margin


@dataclass(frozen=True)
class Inspection:
    """All results for one model."""

    model: str
    method: str
    sources: tuple[str, ...]
    classes: tuple[str, ...]
    stages: tuple[StageStatistics, ...]
    variance: tuple[StageVariance, ...]
    last: tuple[LastFeatures, ...]
    fits: tuple[DepthFit, ...]
    best: BestTap | None
    left_out: tuple[str, ...]

    def last_stage(self) -> list[StageStatistics]:
        """Return the statistics of the last stage."""
        last = max(stage.number for stage in self.stages)
        return [stage for stage in self.stages if stage.number == last]

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values, with None for numbers that are not finite."""
        return {name.name: _plain(getattr(self, name.name)) for name in fields(self)}


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if hasattr(value, "__dataclass_fields__"):
        return _plain(asdict(value))
    return value
