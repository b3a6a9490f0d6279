"""Rules of the code base: light imports, layers, small files, public names that exist."""

import ast
import doctest
import importlib
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "rhm"
FILES = sorted(PACKAGE.rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))
PACKAGES = sorted(
    ".".join(path.parent.relative_to(ROOT).parts) for path in FILES if path.name == "__init__.py"
)
MOST_MODULES = 12
"""Of a room besides ``__init__``: as many as one can take in at a glance."""

HEAVY = {"albumentations", "lightning", "segmentation_models_pytorch", "torch"}


@cache
def imported(path: Path) -> set[str]:
    """The top-level packages that a file imports anywhere in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.partition(".")[0])
    return names


def modules_named(text: str) -> set[str]:
    """The modules, and names from modules, that a program imports, with dots."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def importers(package: str) -> set[str]:
    """The files of rhm that import ``package``."""
    return {path.relative_to(ROOT).as_posix() for path in FILES if package in imported(path)}


@cache
def loaded_after(*statements: str) -> tuple[set[str], ...]:
    """The packages that a fresh interpreter holds after each of the statements."""
    report = "import sys; print(); print('*', *{name.partition('.')[0] for name in sys.modules})"
    finished = subprocess.run(
        [sys.executable, "-c", "".join(f"{each}\n{report}\n" for each in statements)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    said = [line for line in finished.stdout.splitlines() if line.startswith("* ")]
    assert len(said) == len(statements)
    return tuple(set(line.split()) for line in said)


# One after the other, because torch takes seconds to import: what the first may not load, the
# second may not either.
WITH_TORCH = (
    "import rhm.augmentation.augment_config, rhm.data.chips",
    "import rhm.inference.scenes, rhm.models.model_file",
)


def test_importing_rhm_is_light() -> None:
    (loaded,) = loaded_after("import rhm")
    assert "rhm" in loaded
    assert not loaded & (HEAVY | {"cv2", "numpy"})


def test_prediction_does_not_load_the_training_framework() -> None:
    _, loaded = loaded_after(*WITH_TORCH)
    assert "torch" in loaded
    assert not loaded & {"lightning", "albumentations", "pydantic"}


def test_the_names_of_augmentations_are_read_without_albumentations() -> None:
    loaded, _ = loaded_after(*WITH_TORCH)
    assert not loaded & (HEAVY - {"torch"})


def test_a_report_is_made_without_networks() -> None:
    (loaded,) = loaded_after(
        "import rhm.report.pages\n"
        "from rhm.report.sections import section_files\n"
        "for name in section_files():\n"
        "    __import__(f'rhm.report.sections.{name}')\n"
    )
    assert {"jinja2", "pydantic"} <= loaded
    assert not loaded & (HEAVY | {"matplotlib", "rasterio"})


def test_help_is_light() -> None:
    (loaded,) = loaded_after(
        "import runpy, sys\n"
        "sys.argv = ['rhm', '--help']\n"
        "try:\n"
        "    runpy.run_module('rhm.cli.main', run_name='__main__')\n"
        "except SystemExit as exit:\n"
        "    assert exit.code in (None, 0), exit.code\n"
    )
    assert "typer" in loaded
    assert not loaded & HEAVY


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_file_has_at_most_400_lines(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400


def twice(names: Iterable[str]) -> list[str]:
    """The names that occur more than once."""
    return sorted(name for name, times in Counter(names).items() if times > 1)


def test_no_file_name_occurs_twice() -> None:
    assert twice(path.stem for path in FILES if path.stem != "__init__") == []


def test_no_class_name_occurs_twice() -> None:
    classes = (
        node.name
        for path in FILES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef)
    )
    assert twice(classes) == []


@pytest.mark.parametrize("package", PACKAGES)
def test_a_room_is_taken_in_at_a_glance(package: str) -> None:
    if package == "rhm.cli.commands":
        pytest.skip("one file for each command, however many there are")
    room = ROOT.joinpath(*package.split("."))
    assert len([path for path in room.glob("*.py") if path.stem != "__init__"]) <= MOST_MODULES


def test_a_file_of_tests_has_at_most_400_lines() -> None:
    lines = {
        path.relative_to(ROOT).as_posix(): len(path.read_text(encoding="utf-8").splitlines())
        for path in TESTS
    }
    assert [path for path, count in lines.items() if count > 400] == []


def test_every_module_that_decides_something_has_its_tests() -> None:
    missing = set()
    for path in FILES:
        inside = path.relative_to(PACKAGE)
        decides = any(
            isinstance(node, ast.FunctionDef | ast.ClassDef)
            for node in ast.parse(path.read_text(encoding="utf-8")).body
        )
        mirrored = ROOT / "tests" / inside.parent / f"test_{inside.name}"
        if decides and inside.name != "__init__.py" and not mirrored.is_file():
            missing.add(inside.as_posix())
    assert missing == set()


def test_examples_in_docstrings_run() -> None:
    """Doctests of the modules that have some; the others need not be imported to know it."""
    for path in FILES:
        if ">>> " in path.read_text(encoding="utf-8"):
            module = importlib.import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))
            found = doctest.testmod(module)
            assert found.failed == 0, path


@pytest.mark.parametrize("room", ["training", "data", "analysis", "adapters"])
def test_a_door_leads_into_its_room(room: str) -> None:
    if not (PACKAGE / room).is_dir():
        pytest.skip(f"there is no room rhm/{room} yet")
    door = ROOT / room
    if door.is_file():
        pytest.skip(f"this checkout has no symbolic links: {room} is a plain file")
    assert door.is_symlink()
    assert Path(os.readlink(door)) == Path("rhm", room)
    assert door.resolve() == PACKAGE / room


@pytest.mark.parametrize("package", PACKAGES)
def test_every_public_name_resolves(package: str) -> None:
    module = importlib.import_module(package)
    public = getattr(module, "__all__", [])
    assert len(set(public)) == len(public)
    for name in public:
        assert getattr(module, name) is not None


def test_an_unknown_name_of_rhm_is_an_attribute_error() -> None:
    rhm = importlib.import_module("rhm")
    assert set(rhm.__all__) <= set(dir(rhm))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = rhm.nothing


def test_only_the_augmentation_imports_albumentations() -> None:
    rooms = {Path(path).parent.as_posix() for path in importers("albumentations")}
    assert rooms == {"rhm/augmentation"}


def test_only_records_and_the_configuration_import_pydantic() -> None:
    assert importers("pydantic") == {"rhm/records.py", "rhm/training/config.py"}


def test_only_one_file_imports_what_windows_has_not() -> None:
    assert importers("resource") == {"rhm/system.py"}


def test_figures_leave_the_windows_of_the_program_alone() -> None:
    shown = "rhm/notebook_display.py"
    assert importers("matplotlib") <= {shown} | {
        path.relative_to(ROOT).as_posix() for path in (PACKAGE / "lab").rglob("*.py")
    }
    # Notebooks alone have windows, if a user asks for one.
    for path in set(FILES) - {ROOT / shown}:
        text = path.read_text(encoding="utf-8")
        assert "pyplot" not in {name.rpartition(".")[2] for name in modules_named(text)}, path


def test_nothing_unpickles() -> None:
    assert not importers("pickle") | importers("dill") | importers("joblib")


def test_nothing_needs_an_installed_gdal() -> None:
    assert not importers("osgeo")


def test_the_errors_are_one_tree_that_imports_nothing() -> None:
    assert imported(PACKAGE / "errors.py") == set()
    errors = importlib.import_module("rhm.errors")
    raised = [value for value in vars(errors).values() if isinstance(value, type)]
    assert all(issubclass(error, errors.RhmError) for error in raised)
    drawn = str(errors.__doc__)
    assert all(error.__name__ in drawn for error in raised)


def test_rooms_import_only_floors_below() -> None:
    pytest.importorskip("importlinter")
    command = "from importlinter.cli import lint_imports_command as run; run(['--no-cache'])"
    finished = subprocess.run(
        [sys.executable, "-c", command], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert " kept, 0 broken" in finished.stdout
