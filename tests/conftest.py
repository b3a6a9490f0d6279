"""Fixtures that find the real imagery, the oracles and a browser, or skip with a reason."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings

from rhm.system import CACHE_VARIABLE
from tests.examples import EVERYDAY
from tests.stored import made_once, shared_folder

if TYPE_CHECKING:
    from playwright.sync_api import Browser

# Networks this small are slower on many threads, and stall where other work wants the cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# How long an example takes depends on what else the machine does, so there is no deadline.
# `--hypothesis-profile=thorough` looks for counterexamples for longer.
settings.register_profile("everyday", deadline=None, max_examples=EVERYDAY)
settings.register_profile("thorough", deadline=None, max_examples=500)
settings.load_profile("everyday")

# Forks and limits on the size of files are not for Windows.
collect_ignore_glob = ["faults/*"] if os.name == "nt" else []

REPOSITORY = Path(__file__).resolve().parent.parent


def _shared_folder() -> Path:
    return (REPOSITORY / os.environ.get("RHM_DATA", "../shared/data")).resolve()


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real labelled imagery."""
    folder = _shared_folder()
    if not folder.is_dir():
        pytest.skip(f"real imagery not found at {folder}; set RHM_DATA to its folder")
    return folder


@pytest.fixture(scope="session")
def shared_oracles() -> Path:
    """The folder of numbers computed with the papers' own programs."""
    folder = _shared_folder().parent / "oracles"
    if not folder.is_dir():
        pytest.skip(f"oracles not found at {folder}; set RHM_DATA to the folder beside them")
    return folder


@pytest.fixture(scope="session")
def browser() -> "Iterator[Browser]":
    """A headless Chromium."""
    found = filter(None, map(shutil.which, ("chromium", "google-chrome", "chrome")))
    chromium = next(found, None)
    if chromium is None:
        pytest.skip("needs Chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        running = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield running
        running.close()


@pytest.fixture
def thorough(request: pytest.FixtureRequest) -> None:
    """Skip a test that takes long, unless the tests run with `--hypothesis-profile=thorough`."""
    if request.config.getoption("--hypothesis-profile") != "thorough":
        pytest.skip("takes long: run with --hypothesis-profile=thorough")


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of what all workers share."""
    return shared_folder(tmp_path_factory)


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keep what rhm caches out of the user's folder, and use nothing that is there."""
    os.environ[CACHE_VARIABLE] = str(shared_folder(tmp_path_factory) / "cache")


@pytest.fixture(scope="session")
def world(shared: Path) -> Path:
    """A small sample world: 4 domains of 6 tiles of 96 pixels, and a scene of 160."""
    from rhm.synthetic.world import write_sample_world

    folder = shared / "world"
    sizes: dict[str, Any] = {"tile_size": 96, "tiles_per_domain": 6, "scene_size": 160}
    return made_once(folder, lambda: write_sample_world(folder, **sizes, seed=3))


@pytest.fixture(scope="session")
def catalog_path(world: Path) -> Path:
    """The small world's catalog, with splits."""
    from rhm.data import index_folder

    def index() -> None:
        catalog = index_folder(world, group_pattern=r"(\d+)$")
        catalog.assign_splits({"val": 0.2, "test": 0.2}).save(path)

    path = world.with_name("catalog.parquet")
    return made_once(path, index)


@pytest.fixture(scope="session")
def bank_path(catalog_path: Path) -> Path:
    """The bank of the small world's satellite, which stores 16 bit."""
    from rhm.data import Catalog
    from rhm.data.radiometry import bank_of

    def count() -> None:
        bank_of(Catalog.load(catalog_path).select(domains=["birch_satellite"]).tiles).save(path)

    path = catalog_path.with_name("satellite.bank")
    return made_once(path, count)
