"""``rhm doctor``: what it finds here, and what it would say elsewhere."""

import json
import sys
from collections.abc import Callable
from importlib.metadata import version as installed
from pathlib import Path

import pytest

from rhm.cli.commands import doctor

Rhm = Callable[..., tuple[int, str, str]]


def findings(rhm: Rhm) -> dict[str, dict[str, str]]:
    _, printed, _ = rhm("doctor", "--json")
    return {finding["what"]: finding for finding in json.loads(printed)["findings"]}


def test_nothing_is_missing_here(rhm: Rhm) -> None:
    code, printed, _ = rhm("doctor")
    assert code == 0
    assert printed.splitlines()[-1] == "nothing that rhm needs is missing"
    found = findings(rhm)
    assert found["torch"]["found"] == installed("torch")
    assert found["GDAL COG"]["state"] == found["GDAL GPKG"]["state"] == "ok"
    assert {"CPU", "disk"} <= set(found)
    assert all(bool(each["advice"]) == (each["state"] != "ok") for each in found.values())


def test_what_is_missing_is_said_with_the_way_to_get_it(
    rhm: Rhm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        doctor, "requires", lambda _: ["nowhere-to-be_found[x]>=2; python_version>'3'"]
    )
    monkeypatch.setattr(doctor, "find_spec", lambda _: None)
    monkeypatch.setattr(doctor, "_RASTERS", {"NoSuchFormat": "note"})
    code, printed, _ = rhm("doctor")
    assert code == 2
    assert printed.splitlines()[-1] == "missing: nowhere-to-be_found"
    found = findings(rhm)
    assert found["distributed"]["advice"] == "pip install 'rhm[dask]'"
    assert found["GDAL NoSuchFormat"]["state"] == "note"
    assert "rasterio" in found["GDAL NoSuchFormat"]["advice"]


@pytest.mark.parametrize(
    ("module", "what"), [("pyogrio", "GDAL"), ("rasterio", "GDAL"), ("torch", "PyTorch")]
)
def test_libraries_that_cannot_be_loaded_are_told(
    rhm: Rhm, monkeypatch: pytest.MonkeyPatch, module: str, what: str
) -> None:
    """Law: the rest is told all the same, and the exit code is 2."""
    monkeypatch.setitem(sys.modules, module, None)
    code, printed, _ = rhm("doctor")
    assert (code, printed.splitlines()[-1]) == (2, f"missing: {what}")
    found = findings(rhm)
    assert found[what]["found"].startswith("cannot be loaded: ")
    assert "disk" in found


def write_package(folder: Path, name: str, module: str) -> None:
    """An installed package of version 9.8.7, as pip leaves it, that provides a module."""
    (folder / f"{module}.py").touch()
    about = folder / f"{name.replace('-', '_')}-9.8.7.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 9.8.7\n")
    (about / "RECORD").write_text(f"{module}.py,,\n")


def test_a_module_that_a_package_of_another_name_provides_is_there(
    rhm: Rhm, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As `onnxruntime-gpu` provides `onnxruntime`, and `opencv-python` provides `cv2`."""
    write_package(tmp_path, "fast-module-gpu", "fast_module")
    (tmp_path / "lone_module.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    extras = dict.fromkeys(("fast_module", "lone_module"), ("onnx", "nothing works"))
    monkeypatch.setattr(doctor, "_EXTRAS", extras)
    monkeypatch.setattr(doctor, "requires", lambda _: ["fast-module>=1"])
    monkeypatch.setattr(doctor, "_MODULES", {"fast-module": "fast_module"})
    assert rhm("doctor")[0] == 0
    found = findings(rhm)
    for name in ("fast-module", "fast_module"):
        assert (found[name]["state"], found[name]["found"]) == ("ok", "9.8.7 (fast-module-gpu)")
    assert (found["lone_module"]["state"], found["lone_module"]["found"]) == (
        "ok",
        "version unknown",
    )
