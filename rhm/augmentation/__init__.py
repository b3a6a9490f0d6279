"""Augmentation of training chips, in colour and in geometry.

``colours`` and ``geometry`` list the augmentations that a configuration can name. Only this
subpackage imports albumentations, and only when chips are augmented, because the import takes
seconds that reading a configuration must not cost.
"""

import os

# Otherwise albumentations looks for a newer version on the network when it is imported.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
