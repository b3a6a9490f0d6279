"""Tiles of the web's map, by their published examples."""

import numpy as np
import pyproj

from rhm.mapping.place_tiles import PlaceTile, tile_numbers


def test_known_places_lie_in_known_tiles() -> None:
    # Null island; Berlin's Brandenburg Gate, zoom 12; both ends of the map; the north pole.
    x = np.array([0.0, 13.3777, -180.0, 179.999, 10.0])
    y = np.array([0.0, 52.5163, 85.05, -85.05, 90.0])
    found = tile_numbers(x, y, pyproj.CRS("EPSG:4326"))
    assert found.tolist() == [[2048, 2048], [2200, 1343], [0, 0], [4095, 4095], [2161, 0]]
    assert PlaceTile(2200, 1343).name == "12-2200-1343"


def test_the_tile_does_not_depend_on_the_system() -> None:
    to_utm = pyproj.Transformer.from_crs("EPSG:4326", "EPSG:32633", always_xy=True)
    x, y = to_utm.transform(np.array([13.3777]), np.array([52.5163]))
    assert tile_numbers(x, y, pyproj.CRS("EPSG:32633")).tolist() == [[2200, 1343]]


def test_what_has_no_place_on_earth_lies_in_the_first_tile() -> None:
    found = tile_numbers(np.array([np.inf]), np.array([0.0]), pyproj.CRS("EPSG:32633"))
    assert found.tolist() == [[0, 0]]
