"""What ``rhm train`` and ``rhm adapt`` print of a finished run."""

from typing import TYPE_CHECKING, Any

from rhm.cli.output import duration

if TYPE_CHECKING:
    from rhm.training.run import Run


def finished_run(run: "Run") -> tuple[dict[str, Any], list[str]]:
    """Return the validation scores, threshold and time of a run, as JSON values and as lines."""
    from rhm.models.spec import load_spec
    from rhm.training.callbacks.run_cost import read_cost
    from rhm.training.config import SELECT

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
