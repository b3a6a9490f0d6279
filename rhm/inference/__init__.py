"""Inference: from a raster of any size to probabilities, masks and footprints.

This subpackage does not import the training framework.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rhm.inference.polygons import polygonize
    from rhm.inference.runtime.onnx_export import export_onnx
    from rhm.inference.runtime.selection import network_for
    from rhm.inference.scenes import predict_raster

_HOMES = {
    "export_onnx": "rhm.inference.runtime.onnx_export",
    "network_for": "rhm.inference.runtime.selection",
    "polygonize": "rhm.inference.polygons",
    "predict_raster": "rhm.inference.scenes",
}

__all__ = ["export_onnx", "network_for", "polygonize", "predict_raster"]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'rhm.inference' has no attribute '{name}'")
