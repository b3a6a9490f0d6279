"""Findings made by hand."""

from rhm.analysis.depth_trends import fit_line
from rhm.analysis.domains import VarianceShares
from rhm.evaluation.features.findings import (
    BestTap,
    DepthFit,
    Inspection,
    StageStatistics,
    StageVariance,
)


def stage(number: int, domain: str, value: float = 0.5) -> StageStatistics:
    return StageStatistics(
        model="m",
        stage=f"encoder[{number}]",
        number=number,
        part="encoder",
        channels=8,
        stride=2**number,
        domain=domain,
        trained_on=domain == "home",
        comparable=True,
        cells={"background": 10, "building": 4},
        compression=value,
        discrimination=1.0,
        nc1=0.4,
        stable_rank=1.5,
        numerical_rank=3,
        probe=0.9,
        probe_error=0.01,
        transfer=0.8,
        shift={"background": value / 2, "building": value},
        advance={"background": 0.0, "building": 0.1},
    )


def inspection(*stages: StageStatistics, best: BestTap | None = None) -> Inspection:
    fit = fit_line([0.0, 1.0], [1.0, 2.0])  # two points leave no interval
    return Inspection(
        model="m",
        method="rhm",
        sources=("home",),
        classes=("background", "building"),
        stages=stages,
        variance=(StageVariance("m", "encoder[0]", 0, VarianceShares(0.5, 0.2, 0.1, 0.2)),),
        last=(),
        fits=(DepthFit("m", "home", "encoder", "compression", fit),),
        best=best,
        left_out=("<gone>",),
    )
