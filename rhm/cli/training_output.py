"""What ``rhm train`` and ``rhm adapt`` say of a run."""

from typing import TYPE_CHECKING, Any

from rhm.cli.output import duration, say

if TYPE_CHECKING:
    from rhm.training.config import RunConfig
    from rhm.training.run import Run


def continues(config: "RunConfig", *, resume: bool) -> bool:
    """Return whether an earlier attempt is continued; one that never began begins.

    An interrupt may come before there is anything to continue.
    """
    from rhm.training.run import Run

    begun = Run(config.folder).is_begun
    if resume and not begun:
        say(f"there is no run at {config.folder} yet: it begins")
    return resume and begun


def finished_run(run: "Run") -> tuple[dict[str, Any], list[str]]:
    """Return the validation scores, threshold and time of a run, as JSON values and as lines."""
    from rhm.models.spec import load_spec
    from rhm.training.callbacks.run_cost import read_cost
    from rhm.training.configs.trainer_config import SELECT

    scores = run.best_scores(SELECT[run.config.trainer.select])
    cost, threshold = read_cost(run.folder), load_spec(run.model).threshold
    values = {
        "validation": scores,
        "threshold": threshold,
        "seconds": None if cost is None else cost.seconds,
    }
    lines = []
    if cost is not None:
        lines.append(f"{cost.steps} steps in {duration(cost.seconds)}")
    validated = f"validation IoU {scores['iou']:.3f}, " if "iou" in scores else ""
    lines.append(f"{validated}threshold {threshold:.3f}")
    return values, lines
