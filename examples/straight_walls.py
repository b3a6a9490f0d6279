"""Straight walls and right angles for ragged outlines.

Footprints traced from a prediction have pixel steps and eroded corners. `regularize_frame` gives
footprints straight walls, in any coordinate reference system.
"""

import sys
from pathlib import Path

import cv2
import geopandas
import matplotlib.pyplot as plt
import numpy as np
import rasterio.features
import shapely
from shapely import affinity

from rhm.inference.regularization import regularize_frame

houses = [
    affinity.rotate(shapely.box(10, 12, 46, 34), 17),
    affinity.rotate(
        shapely.Polygon([(60, 10), (98, 10), (98, 24), (80, 24), (80, 44), (60, 44)]), -8
    ),
    shapely.Point(26, 70).buffer(13),
    affinity.rotate(shapely.box(60, 60, 100, 84) - shapely.box(73, 68, 88, 77), 30),
]
rng = np.random.default_rng(0)
drawn = rasterio.features.rasterize(houses, (100, 112)).astype(np.float32)
noise = cv2.GaussianBlur(rng.normal(size=drawn.shape).astype(np.float32), (0, 0), 1.2)
seen = (cv2.GaussianBlur(drawn, (0, 0), 1.0) + 0.7 * noise > 0.5).astype(np.uint8)
traced = [shapely.geometry.shape(each) for each, _ in rasterio.features.shapes(seen, seen == 1)]
ragged = geopandas.GeoDataFrame(geometry=[each for each in traced if each.area > 20])

straight = regularize_frame(ragged, tolerance_m=2.5)
corners = [frame.geometry.count_coordinates().sum() for frame in (ragged, straight)]
print(f"{corners[0]} corners before, {corners[1]} after")

figure, axes = plt.subplots(1, 2, figsize=(8, 3.8), layout="constrained", sharey=True)
for axis, frame, title in zip(axes, (ragged, straight), ("as traced", "regularised"), strict=True):
    geopandas.GeoSeries(houses).plot(ax=axis, color="#dfe5ec")
    frame.boundary.plot(ax=axis, color="#0072b2", linewidth=1.4)
    axis.set_title(title, fontsize=10)
    axis.set_axis_off()
figure.savefig(Path(sys.argv[1]), dpi=120)
