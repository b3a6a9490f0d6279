"""Rendering; laws: what is painted covers its outline, and light comes from the sun."""

from dataclasses import replace

import numpy as np
import pytest
import rasterio.features
import shapely
from hypothesis import given
from hypothesis import strategies as st

from rhm.synthetic.render import Canvas, noise_field, render
from rhm.synthetic.town import TOWNS, Box, Building, Layout

TOWN = TOWNS["alder"]
SIZE_M = (40.0, 30.0)


def empty(**things: object) -> Layout:
    """A place with nothing on it but what is named."""
    layout = Layout(SIZE_M, streets=(), blocks=(), lots=(), trees=np.empty((0, 3)), cars=())
    return replace(layout, **things)  # type: ignore[arg-type]


def rendered(layout: Layout, gsd_m: float = 0.5, seed: int = 0) -> np.ndarray:
    shape = (round(SIZE_M[1] / gsd_m), round(SIZE_M[0] / gsd_m))
    return render(TOWN, layout, shape, gsd_m, rng=np.random.default_rng(seed))


@given(st.integers(0, 1 << 20), st.floats(0.2, 2.0))
def test_a_filled_polygon_covers_as_much_as_it_is_large(seed: int, gsd_m: float) -> None:
    rng = np.random.default_rng(seed)
    corners = shapely.MultiPoint(rng.uniform(8.0, 32.0, (6, 2))).convex_hull
    canvas = Canvas(np.zeros((80, 80, 3), np.float32), np.zeros((80, 80), np.float32), gsd_m)
    scaled = shapely.get_coordinates(corners) * gsd_m
    canvas.fill(scaled, (1.0, 0.5, 0.25), texture=0.0)
    covered = canvas.pixels[..., 0].sum() * gsd_m**2
    outline = shapely.Polygon(scaled)
    assert covered == pytest.approx(outline.area, rel=1e-4)
    np.testing.assert_allclose(canvas.pixels[..., 1], canvas.pixels[..., 0] / 2, atol=1e-6)
    within = outline.buffer(-1.5 * gsd_m)
    if not within.is_empty:
        transform = rasterio.Affine(gsd_m, 0, 0, 0, gsd_m, 0)
        inside = rasterio.features.rasterize([within], (80, 80), transform=transform)
        np.testing.assert_allclose(canvas.pixels[..., 0][inside == 1], 1.0, atol=1e-2)


def test_what_lies_off_the_canvas_changes_nothing() -> None:
    canvas = Canvas.blank((20, 20), 1.0, rng=np.random.default_rng(0))
    for points in (np.array([[-9.0, -9], [-5, -9], [-5, -5]]), np.empty((0, 2))):
        canvas.fill(points, (1.0, 1.0, 1.0))
    assert not canvas.pixels.any()


def test_noise_has_no_mean_and_about_unit_variance() -> None:
    rng = np.random.default_rng(0)
    fields = np.stack([noise_field((64, 64), 0.5, (0.5, 2.0), rng=rng) for _ in range(60)])
    assert fields.mean() == pytest.approx(0.0, abs=0.05)
    assert 0.5 < fields.var() < 1.3


def test_a_roof_takes_its_colour_and_throws_a_shadow_away_from_the_sun() -> None:
    wing = Box(np.array([20.0, 15.0]), np.array([6.0, 0.0]), np.array([0.0, 4.0]))
    red = Building((wing,), 8.0, flat=True, colour=(0.6, 0.1, 0.1))
    lot_less = empty()
    plain = rendered(lot_less)
    built = render_with(red)
    roof = built[24:36, 30:50]
    assert roof[..., 0].mean() > 3.0 * roof[..., 1].mean()
    darker = (plain - built).mean(axis=-1)
    darker[20:40, 26:54] = 0.0
    rows, columns = np.nonzero(darker > 0.3 * plain.mean(axis=-1))
    assert len(rows) > 20
    away = np.array([columns.mean() * 0.5 - 20.0, rows.mean() * 0.5 - 15.0])
    assert away @ TOWN.sun_xy < 0.0


def render_with(building: Building) -> np.ndarray:
    """Render a place where one building stands."""

    class Built(Layout):
        buildings = [building]  # noqa: RUF012 - a property of the layout

    layout = empty()
    return rendered(Built(**vars(layout)))


def test_reflectance_is_a_share_and_its_seeds() -> None:
    tree, car = (
        np.array([[10.0, 10.0, 3.0]]),
        Box(np.array([30.0, 20.0]), np.array([2.2, 0.0]), np.array([0.0, 0.9])),
    )
    layout = empty(trees=tree, cars=(car,))
    first, again, other = rendered(layout), rendered(layout), rendered(layout, seed=1)
    assert first.dtype == np.float32
    assert first.shape == (60, 80, 3)
    assert 0.0 <= first.min() < first.max() <= 1.0
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    crown = first[18:22, 18:22].mean(axis=(0, 1))
    assert np.argmax(crown) == np.argmax(TOWN.foliage)
