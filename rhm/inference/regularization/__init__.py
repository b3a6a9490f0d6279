"""Straight walls and right angles for footprints that were traced from pixels."""

from rhm.inference.regularization.regularize import regularize, regularize_frame

__all__ = ["regularize", "regularize_frame"]
