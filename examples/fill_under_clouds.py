"""Fill in pixels under clouds by completing a low-rank matrix.

A time series of images is a matrix of pixels by dates and bands. Its rank is low, because surfaces
that look alike also change alike. `complete_matrix` fills in the unknown entries without knowing
the rank, with a deep product of narrow factors that starts near zero (*The law of parsimony* and
*Compressible dynamics*).

    python fill_under_clouds.py FIGURE [SIDE]

SIDE, by default 96, is the side of the images in pixels; a smaller one takes less time.
"""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import matplotlib.pyplot as plt
import numpy as np
import rasterio

from rhm.adapters.linear_network import complete_matrix
from rhm.synthetic.world import write_sample_world

output = Path(sys.argv[1])
side = int(sys.argv[2]) if len(sys.argv) > 2 else 96
rng = np.random.default_rng(0)
with TemporaryDirectory() as folder:
    write_sample_world(folder, tile_size=96, tiles_per_domain=1, scene_size=96, seed=0)
    with rasterio.open(next(Path(folder, "alder_aerial", "images").glob("*.tif"))) as image:
        town = np.moveaxis(image.read(), 0, -1)[:side, :side] / 255.0  # (side, side, 3)

# Ten dates with different illumination, haze and season; clouds cover two fifths of each image.
green = np.clip(2 * town[..., 1:2] - town[..., :1] - town[..., 2:], 0, None)
dates = [
    (town ** rng.uniform(0.7, 1.5) + rng.uniform(0, 1) * green * [1.0, -0.2, 0.2])
    * rng.uniform(0.5, 1.1, 3)
    + rng.uniform(0, 0.1, 3)
    + rng.normal(0, 0.005, town.shape)
    for _ in range(10)
]
noise = [cv2.GaussianBlur(rng.normal(size=(side, side)), (0, 0), side * 3 / 32) for _ in dates]
clear = [each < np.quantile(each, 0.6) for each in noise]

matrix = np.stack(dates, axis=2).reshape(-1, 30)  # pixels x (dates, bands)
known = np.repeat(np.stack(clear, axis=2).reshape(-1, 10), 3, axis=1)

seen = np.where(known, matrix, np.nan)
mean, spread = np.nanmean(seen, axis=0), np.nanstd(seen, axis=0)
centred = np.where(known, matrix - mean, 0.0)
scale = 10.0 / np.linalg.norm(centred, 2)  # singular values up to 10
found = complete_matrix(scale * centred, known, rank=5, init_scale=0.1, max_steps=10_000)
completed = mean + found.product().numpy() / scale

# For comparison: the mean of the other dates, scaled to the mean and spread of this date.
other = np.nanmean(((seen - mean) / spread).reshape(-1, 10, 3), axis=1)
filled = mean + spread * np.tile(np.nan_to_num(other), 10)
for name, guess in (("other dates", filled), ("completed", completed)):
    error = np.sqrt(np.mean((guess - matrix)[~known] ** 2))
    print(f"{name}: RMSE under the clouds {error:.4f}")

date, shape = 0, town.shape
pictures = {
    "with clouds": np.where(clear[date][..., None], dates[date], 1.0),
    "from other dates": np.where(clear[date][..., None], dates[date], filled[:, :3].reshape(shape)),
    "completed": np.where(clear[date][..., None], dates[date], completed[:, :3].reshape(shape)),
    "true image": dates[date],
}
figure, axes = plt.subplots(1, len(pictures), figsize=(10, 2.8), layout="constrained")
for axis, (title, picture) in zip(axes, pictures.items(), strict=True):
    axis.imshow(np.clip(picture / dates[date].max(), 0, 1))
    axis.set_title(title, fontsize=10)
    axis.set_axis_off()
figure.savefig(output, dpi=120)
