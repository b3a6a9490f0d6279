"""The trial of runtimes. Oracle: runtimes whose speeds are known, because some of them wait."""

import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from torch import Tensor

from rhm.errors import ModelFileError
from rhm.inference import network_for
from rhm.inference.runtime import selection
from rhm.inference.runtime.backends import Backend, TorchBackend
from rhm.inference.runtime.runtimes import RUNTIMES, Runtime
from rhm.models.build import SegmentationModel
from rhm.system import CACHE_VARIABLE
from tests.inference.networks import built

NAMES = ("quick", "slow", "torch")


class Waiting(TorchBackend):
    """A runtime that takes a known time for every batch."""

    def __init__(self, model: SegmentationModel, runtime: str, seconds: float) -> None:
        super().__init__(model, "cpu", mixed=False)
        self.runtime = runtime
        self.seconds = seconds
        self.batches = 0

    def forward(self, images: Tensor) -> Tensor:
        self.batches += 1
        time.sleep(self.seconds)
        return images[:, :1]


def waits(name: str, seconds: float) -> Callable[[SegmentationModel, str], Backend]:
    return lambda model, place: Waiting(model, name, seconds)


def refuses(model: SegmentationModel, place: str) -> Backend:
    raise ModelFileError("too large for the beads")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the test's own, and two runtimes of known speeds."""
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))
    monkeypatch.setitem(RUNTIMES, "quick", Runtime("Quick", waits("quick", 0.05), ("cpu",)))
    monkeypatch.setitem(RUNTIMES, "slow", Runtime("Slow", waits("slow", 0.2), ("cpu",)))
    monkeypatch.setattr(selection, "AUTO", NAMES[:2])
    return tmp_path


def auto(tell: Callable[[str], None] | None = None, encoder: str = "test_resnet") -> Backend:
    return network_for(built(encoder=encoder), device="cpu", tell=tell)


def change(monkeypatch: pytest.MonkeyPatch, quick: float, slow: float) -> None:
    for name, seconds in (("quick", quick), ("slow", slow)):
        monkeypatch.setitem(RUNTIMES, name, replace(RUNTIMES[name], open=waits(name, seconds)))


def test_the_fastest_is_chosen_and_told_once(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    change(monkeypatch, quick=0.2, slow=0.05)
    assert auto(told.append).runtime == "slow"
    (line,) = told
    assert line.startswith("runtime slow, after a trial")
    # From now on it stays, though it would lose: the last digits of results depend on it.
    change(monkeypatch, quick=0.05, slow=0.2)
    network = auto(told.append)
    assert network.runtime == "slow"
    assert isinstance(network, Waiting)
    assert network.batches == 0
    assert len(told) == 1
    # Another kind of network has its own trial.
    assert auto(told.append, "test_efficientnet").runtime == "quick"
    assert len(told) == 2


def test_a_small_difference_does_not_decide(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    change(monkeypatch, quick=0.2, slow=0.19)
    assert auto().runtime == "quick"


def test_what_cannot_express_the_network_takes_no_part(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(RUNTIMES, "quick", replace(RUNTIMES["quick"], open=refuses))
    assert auto().runtime == "slow"
    monkeypatch.setitem(RUNTIMES, "slow", replace(RUNTIMES["slow"], open=refuses))
    with pytest.raises(ModelFileError, match="too large for the beads"):
        auto()


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", '{"runtime": "abacus", "seconds": {}}', '{"runtime": 1, "seconds": {}}'],
)
def test_a_damaged_choice_is_made_again(cache: Path, content: str) -> None:
    assert auto().runtime == "quick"
    (kept,) = cache.rglob("*.json")
    assert json.loads(kept.read_text())["runtime"] == "quick"
    kept.write_text(content)
    assert auto().runtime == "quick"
    assert json.loads(kept.read_text())["runtime"] == "quick"


def test_without_a_cache_the_trial_still_decides(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (cache / "file").touch()
    monkeypatch.setenv(CACHE_VARIABLE, str(cache / "file"))
    assert auto().runtime == "quick"


def test_few_pixels_need_no_trial(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selection, "AUTO", NAMES)
    for name in NAMES[:2]:
        monkeypatch.setitem(RUNTIMES, name, replace(RUNTIMES[name], worthwhile_px=1000))
    assert network_for(built(), device="cpu", pixels=100).runtime == "torch"
    assert not list(cache.rglob("*.json"))
