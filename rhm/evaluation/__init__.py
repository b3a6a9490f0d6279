"""Evaluation: scores for each domain, with confidence intervals and example images."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rhm.evaluation.evaluator import evaluate_model

__all__ = ["evaluate_model"]

_HOMES = {"evaluate_model": "rhm.evaluation.evaluator"}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'rhm.evaluation' has no attribute '{name}'")
