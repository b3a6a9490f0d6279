"""The description that tests of models share."""

from rhm.data.radiometry import Scaling
from rhm.models.spec import ModelSpec

SPEC = ModelSpec(
    architecture="unet",
    encoder="test_efficientnet",
    bands=3,
    scalings={"uint16": Scaling("uint16", (10.0, 20.0, 30.0), (900.0, 800.0, 700.0))},
    gsd_m=0.3,
    threshold=0.42,
    sources=("here",),
    source_histograms={"here": [[1.0, *[0.0] * 255]] * 3},
)
