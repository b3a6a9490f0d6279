"""Commands beside their floors: the least that any program would take for the same.

    python benchmarks/commands.py --work /tmp/commands

Each command takes turns with a bare program that imports only the libraries that nobody can do
without, reads the same files and, where a network is part of it, runs the network on the same
pixels. Times are seconds of the processor in all processes, medians over ``--runs``, on one thread
each; other programs hardly change them. The imagery is drawn: the sample world, its tiles as
GeoTIFFs with footprints, and the same cut into tiny scenes.
"""

import argparse
import os
import resource
import shutil
import statistics
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import rasterio
from machine import machine
from rasterio.windows import Window

from rhm.data.catalog import Catalog
from rhm.models.named_models import model_file
from rhm.synthetic.world import write_sample_world

DOMAIN = "alder_aerial"
TILE_PX, TINY_PX = 512, 96
READ = """
import sys, rasterio
for path in sys.argv[1:]:
    with rasterio.open(path) as image:
        image.read()
"""
READ_BOTH = f"""
import pyogrio
{READ}
    pyogrio.read_arrow(path.replace("images", "footprints").replace(".tif", ".gpkg"))
"""
NETWORK = """
import sys, numpy, rasterio, torch
from rhm.models.model_file import load_model
network = load_model(sys.argv[1]).eval().to(memory_format=torch.channels_last)
for path in sys.argv[2:]:
    with rasterio.open(path) as image:
        pixels = torch.from_numpy(image.read().astype(numpy.float32) / 255)[None]
    with torch.inference_mode():
        network(pixels.contiguous(memory_format=torch.channels_last))
"""


@dataclass(frozen=True)
class Case:
    """A command of rhm and its floor, by what they are called in the table.

    Attributes:
        name: what is done.
        command: arguments of ``rhm``.
        floor_name: what the floor does.
        floor: program in Python.
        given: arguments of the floor.
        count: what the seconds are divided by for the last column.
        unit: what is counted.
    """

    name: str
    command: list[str]
    floor_name: str
    floor: str
    given: tuple[str, ...] = ()
    count: float = 0.0
    unit: str = ""


def main() -> None:
    """Measure all commands and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--images", type=int, default=96, help="labelled images of 512 x 512")
    parser.add_argument("--scenes", type=int, default=100, help="tiny scenes")
    parser.add_argument("--only", nargs="+", default=(), help="first words of the commands")
    asked = parser.parse_args()
    work: Path = asked.work
    images, tiny = prepare(work, asked.images, asked.scenes)
    print(machine("torch", "rasterio", "typer", "segmentation-models-pytorch"), "\n")
    print("| command | beside | seconds | of the floor | over it, by unit |")
    print("|---|---|---|---|---|")
    for case in cases(work, images, tiny):
        if asked.only and case.command[0] not in asked.only:
            continue
        ours, floors = [], []
        for _ in range(asked.runs):
            shutil.rmtree(work / "out", ignore_errors=True)
            (work / "out").mkdir()
            ours.append(cpu_seconds([sys.executable, "-m", "rhm.cli.main", *case.command]))
            floors.append(cpu_seconds([sys.executable, "-c", case.floor, *case.given]))
        print(row(case, statistics.median(ours), statistics.median(floors)), flush=True)


def row(case: Case, ours: float, floor: float) -> str:
    """Return a row of the table."""
    over = ""
    if case.count:
        over = f"{1000 * (ours - floor) / case.count:.1f} ms per {case.unit}"
    cells = case.name, f"{case.floor_name}: {floor:.2f}", f"{ours:.2f}", f"{ours / floor:.2f}", over
    return f"| {' | '.join(cells)} |"


def cases(work: Path, images: list[str], tiny: list[str]) -> Iterator[Case]:
    """Yield what is measured."""
    folder, out, catalog = str(town_of(work)), str(work / "out"), str(work / "kept.parquet")
    libraries = "import numpy, rich, typer"
    yield Case("`rhm --help`", ["--help"], "importing libraries", libraries)
    yield Case("`rhm models`", ["models"], "importing libraries", libraries)
    inspected = ["data", "inspect", images[0]]
    yield Case("`rhm data inspect`, one image", inspected, "reading it", READ, (images[0],))
    count = len(images)
    for workers in (1, 2):
        indexed = ["data", "index", "folder", folder, "--domain", DOMAIN, "-o", f"{out}/a.parquet"]
        name = f"`rhm data index`, {count} images, {workers} at once"
        indexed += ["--workers", str(workers)]
        yield Case(name, indexed, "reading them", READ_BOTH, tuple(images), count, "image")
    pixels = count * TILE_PX**2 / 1e6
    for options in ((), ("--no-spectrum",)):
        name = " ".join(["`rhm bank build", *options]) + f"`, {pixels:.0f} Mpx"
        banked = ["bank", "build", f"{folder}/images", "-o", f"{out}/a.bank", *options]
        yield Case(name, banked, "reading them", READ, tuple(images), pixels, "megapixel")
    model = str(model_file("starter"))
    tested = [str(tile.image) for tile in Catalog.load(catalog).select(split="test").tiles]
    name = f"`rhm evaluate`, {len(tested)} images of {TILE_PX} x {TILE_PX}"
    evaluating = ["evaluate", "starter", catalog, "--runtime", "torch", "-o", f"{out}/scores"]
    yield Case(name, evaluating, "network alone", NETWORK, (model, *tested), len(tested), "image")
    drawn = "import jinja2, matplotlib.figure, numpy"
    reported = ["report", str(work / "kept"), "-o", f"{out}/a.html"]
    yield Case("`rhm report` of that", reported, "importing libraries", drawn)
    name = f"`rhm predict`, {len(tiny)} scenes of {TINY_PX} x {TINY_PX}"
    predicting = ["predict", "starter", *tiny, "--runtime", "torch", "-o", out]
    yield Case(name, predicting, "network alone", NETWORK, (model, *tiny), len(tiny), "scene")


def town_of(work: Path) -> Path:
    """Return the folder of the imagery."""
    return work / "world" / DOMAIN


def prepare(work: Path, count: int, scenes: int) -> tuple[list[str], list[str]]:
    """Write imagery, a catalog of it and scores; return images and tiny scenes."""
    images = town_of(work) / "images"
    if not images.is_dir():
        world = work / "world"
        write_sample_world(world, tile_size=TILE_PX, tiles_per_domain=count, domains=[DOMAIN])
    found = sorted(map(str, images.glob("*.tif")))
    tiny = work / "tiny"
    if not tiny.is_dir():
        tiny.mkdir()
        for number in range(scenes):
            write_part(found[number % len(found)], tiny / f"{number:04}.tif", number // len(found))
    rhm = [sys.executable, "-m", "rhm.cli.main"]
    catalog = str(work / "kept.parquet")
    if not Path(catalog).is_file():
        indexed = ["data", "index", "folder", str(town_of(work)), "--domain", DOMAIN]
        subprocess.run([*rhm, *indexed, "--val", "0.2", "--test", "0.2", "-o", catalog], check=True)
    if not (work / "kept").is_dir():
        kept = ["evaluate", "starter", catalog, "-o", str(work / "kept" / "evaluation")]
        subprocess.run([*rhm, *kept], check=True)
    return found, sorted(map(str, tiny.glob("*.tif")))


def write_part(image: str, path: Path, number: int) -> None:
    """Write a tiny scene: a part of an image."""
    row, col = (place * TINY_PX for place in divmod(number, TILE_PX // TINY_PX))
    window = Window(col, row, TINY_PX, TINY_PX)
    with rasterio.open(image) as source:
        profile = source.profile | {
            "width": TINY_PX,
            "height": TINY_PX,
            "transform": source.window_transform(window),
        }
        for name in ("tiled", "blockxsize", "blockysize"):
            profile.pop(name, None)
        with rasterio.open(path, "w", **profile) as part:
            part.write(source.read(window=window))


def cpu_seconds(words: list[str]) -> float:
    """Run a program on one thread; return the seconds of the processor of all its processes."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    # Otherwise each program would compile all modules that it imports.
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL, env=environment)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    main()
