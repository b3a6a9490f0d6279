"""Plans of towns: nothing stands on what it must not stand on."""

import numpy as np
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from rhm.synthetic.town import TOWNS, Layout
from rhm.synthetic.town_plan import lay_out


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), town=st.sampled_from(list(TOWNS)))
def test_buildings_stand_apart_and_have_real_sizes(seed: int, town: str) -> None:
    layout = lay_out(TOWNS[town], (150.0, 110.0), rng=np.random.default_rng(seed))
    footprints = np.array([building.footprint for building in layout.buildings])
    touching = shapely.STRtree(footprints).query(footprints, predicate="intersects")
    np.testing.assert_array_equal(touching[0], touching[1])
    areas_m2 = shapely.area(footprints)
    houses = areas_m2 <= 220
    assert (areas_m2[houses] >= 80).all()
    assert ((areas_m2[~houses] >= 480) & (areas_m2[~houses] <= 2000)).all()


def planned(seed: int, town: str = "alder") -> Layout:
    return lay_out(TOWNS[town], (150.0, 110.0), rng=np.random.default_rng(seed))


@settings(max_examples=10)
@given(seed=st.integers(0, 2**32 - 1), town=st.sampled_from(list(TOWNS)))
def test_everything_stands_where_it_may(seed: int, town: str) -> None:
    layout = planned(seed, town)
    blocks = shapely.union_all(layout.blocks)
    for lot in layout.lots:
        assert blocks.buffer(1e-6).contains(lot.polygon)
        if lot.building is not None:
            assert lot.polygon.contains(lot.building.footprint)
            assert lot.use != "park"
        if lot.pool is not None:
            pool = shapely.Polygon(lot.pool.corners)
            assert lot.polygon.contains(pool)
            assert lot.building is not None
            assert pool.disjoint(lot.building.footprint)
        if lot.drive is not None:
            assert lot.use == "homes"
            assert blocks.boundary.distance(shapely.Point(lot.drive[-1])) < 1e-6
    for street, width_m in layout.streets:
        assert width_m >= TOWNS[town].street_width_m
        assert street.buffer(width_m / 2 - 0.1, cap_style="flat").intersection(blocks).area < 1.0


@settings(max_examples=10)
@given(seed=st.integers(0, 2**32 - 1), town=st.sampled_from(list(TOWNS)))
def test_no_tree_is_rooted_in_a_building(seed: int, town: str) -> None:
    layout = planned(seed, town)
    x, y, radius = layout.trees.T
    assert (radius > 0).all()
    built = shapely.union_all([building.footprint for building in layout.buildings])
    assert not shapely.contains_xy(built, x, y).any()


def test_lots_are_no_larger_than_the_town_has_them() -> None:
    for name, town in TOWNS.items():
        homes = [lot.polygon.area for lot in planned(1, name).lots if lot.use == "homes"]
        assert homes
        assert max(homes) <= town.lot_m2


def test_the_same_seed_draws_the_same_plan() -> None:
    first, again, other = planned(5), planned(5), planned(6)
    np.testing.assert_array_equal(first.trees, again.trees)
    assert [b.footprint.wkb for b in first.buildings] == [b.footprint.wkb for b in again.buildings]
    assert [b.footprint.wkb for b in first.buildings] != [b.footprint.wkb for b in other.buildings]
