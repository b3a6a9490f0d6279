"""One image in the colours of another town.

Whenever a labelled chip is shown to the network, randomized histogram matching gives it the
histogram of an unlabelled image of the target domain, drawn at random. The labels remain valid.
"""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import matplotlib.pyplot as plt
import numpy as np
import rasterio

import rhm
from rhm.synthetic.world import write_sample_world


def read(path: Path) -> np.ndarray:
    """Return an image, (height, width, bands)."""
    with rasterio.open(path) as raster:
        return np.moveaxis(raster.read(), 0, -1)


output = Path(sys.argv[1])
with TemporaryDirectory() as folder:
    write_sample_world(folder, tile_size=192, tiles_per_domain=6, scene_size=96, seed=1)
    source = read(sorted(Path(folder, "alder_aerial", "images").glob("*.tif"))[2])
    targets = [read(path) for path in sorted(Path(folder, "birch_aerial", "images").glob("*.tif"))]

bank = rhm.HistogramBank.from_images(targets)
augment = rhm.RandomizedHistogramMatching(bank, p=1.0)
augment.set_random_seed(0)
shown = {"labelled": source}
shown |= {f"draw {number}": augment(image=source)["image"] for number in (1, 2, 3)}
shown["target image"] = targets[0]

figure, axes = plt.subplots(1, len(shown), figsize=(10, 2.4), layout="constrained")
for axis, (title, image) in zip(axes, shown.items(), strict=True):
    axis.imshow(image)
    axis.set_title(title, fontsize=10)
    axis.set_axis_off()
figure.savefig(output, dpi=120)
