"""``rhm doctor``: what it finds here, and what it would say elsewhere."""

import json
from collections.abc import Callable
from importlib.metadata import version as installed

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
