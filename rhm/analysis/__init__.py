"""Analysis of networks: neural collapse and separation of their features."""

from rhm.analysis.collapse import Collapse, collapse
from rhm.analysis.moments import ClassMoments
from rhm.analysis.separation import Separation, separation

__all__ = ["ClassMoments", "Collapse", "Separation", "collapse", "separation"]
