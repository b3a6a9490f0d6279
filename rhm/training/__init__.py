"""Training and evaluation: configuration, losses, metrics, runs."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rhm.models.model_file import load_model
    from rhm.training.config import RunConfig, read_config
    from rhm.training.fitting import fit

_HOMES = {
    "RunConfig": "rhm.training.config",
    "fit": "rhm.training.fitting",
    "load_model": "rhm.models.model_file",
    "read_config": "rhm.training.config",
}

__all__ = ["RunConfig", "fit", "load_model", "read_config"]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'rhm.training' has no attribute '{name}'")
