"""Two scenes of a town side by side, which overlap by 40 m."""

from pathlib import Path

import pytest

from tests.mapping.towns import ground, write_town_scene

WEST, EAST = (0.0, 0.0, 100.0, 80.0), (60.0, 0.0, 160.0, 80.0)
HOUSES = {
    "only west": ground(20, 20, 30, 30),
    "both": ground(75, 30, 85, 40),
    "cut by west": ground(95, 20, 105, 28),
    "too long for both": ground(50, 60, 110, 66),
    "only east": ground(130, 20, 140, 35),
}


@pytest.fixture
def two_scenes(tmp_path: Path) -> list[Path]:
    """The footprints of both scenes; the western one is surer of what it sees."""
    west = [(shape, 0.9) for shape in HOUSES.values()]
    east = [(shape, 0.7) for shape in HOUSES.values()]
    folder = tmp_path / "predicted"
    return [
        write_town_scene(folder, "west", WEST, west, date="2024-05-01"),
        write_town_scene(folder, "east", EAST, east),
    ]
