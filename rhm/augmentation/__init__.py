"""Augmentation: what varies training chips, in colour and in geometry.

``colours`` and ``geometry`` list what a configuration can name. The one room that imports
albumentations, and only where chips are varied: to read a configuration must not cost its seconds.
"""

import os

# albumentations asks the network for a newer version when it is imported, unless told not to.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
