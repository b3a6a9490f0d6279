"""The mean of the weights; laws: it is the mean of the last steps, interrupted or not."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
from torch import Tensor

from rhm.data.catalog import Catalog
from rhm.errors import ConfigError
from rhm.models.model_file import load_model
from rhm.training import fitting
from rhm.training.callbacks.checkpoints import CheckpointWriter
from rhm.training.config import RunConfig
from rhm.training.fitting import fit

Make = Callable[..., RunConfig]
State = dict[str, Tensor]

# Of six steps, those from the fourth on count.
TRAINER = {"steps": 6, "validate_every": 2, "batch_size": 4, "average": 0.5}


class Stopped(Exception):
    """An interrupt after an epoch."""


class Watch(lightning.Callback):
    """Records the weights after each step, and interrupts training after a number of epochs."""

    def __init__(self, epochs: int | None = None) -> None:
        self.states: list[State] = []
        self.left = epochs

    def on_train_batch_end(self, _: Any, module: lightning.LightningModule, *__: Any) -> None:
        model = module.get_submodule("model")
        self.states.append({name: value.clone() for name, value in model.state_dict().items()})

    def on_train_epoch_end(self, *_: Any) -> None:
        if self.left is not None:
            self.left -= 1
            if self.left == 0:
                raise Stopped


def watched(monkeypatch: pytest.MonkeyPatch, watch: Watch, config: RunConfig) -> None:
    real = fitting._trainer

    def trainer(*words: Any, **options: Any) -> lightning.Trainer:
        made = real(*words, **options)
        made.callbacks.append(watch)  # type: ignore[attr-defined]
        return made

    with monkeypatch.context() as patch:
        patch.setattr(fitting, "_trainer", trainer)
        fit(config)


def states_equal(ours: State, theirs: State) -> bool:
    return all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.fixture(params=["validated", "without validation images"])
def make(
    request: pytest.FixtureRequest, tiny: Make, catalog_path: Path, tmp_path: Path
) -> Callable[[str], RunConfig]:
    """Make a configuration that averages weights; its best checkpoint is its last one."""
    data: dict[str, Any] = {}
    if request.param != "validated":
        frame = Catalog.load(catalog_path).frame
        Catalog(frame.assign(split="train")).save(tmp_path / "all.parquet")
        data = {"catalog": str(tmp_path / "all.parquet")}
    return lambda name: tiny(name, trainer=TRAINER, data=data)


@pytest.fixture(autouse=True)
def last_is_best(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every validation count as better than those before it."""
    real = CheckpointWriter.on_validation_end

    def forgetful(self: Any, *words: Any) -> None:
        self._best = -1.0
        real(self, *words)

    monkeypatch.setattr(CheckpointWriter, "on_validation_end", forgetful)


@pytest.fixture
def whole(make: Callable[[str], RunConfig], catalog_path: Path, ends: dict[bool, State]) -> State:
    """The weights of a run that is not interrupted, which several tests compare with."""
    config = make("whole")
    validated = config.data.catalog == str(catalog_path)
    if validated not in ends:
        ends[validated] = load_model(fit(config).folder).state_dict()
    return ends[validated]


@pytest.fixture(scope="module")
def ends() -> dict[bool, State]:
    """The weights of ``whole``, with and without validation images, once they are there."""
    return {}


def test_the_model_is_the_mean_of_the_last_steps(
    make: Callable[[str], RunConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    watch, config = Watch(), make("mean")
    watched(monkeypatch, watch, config)
    found = load_model(config.folder).state_dict()
    assert len(watch.states) == 6
    for name, value in found.items():
        last = [state[name] for state in watch.states[3:]]
        if value.is_floating_point():
            torch.testing.assert_close(value, torch.stack(last).mean(dim=0), rtol=1e-5, atol=1e-7)
        else:
            assert torch.equal(value, last[-1])
    assert not states_equal(found, watch.states[-1])


@pytest.mark.parametrize("epochs", [1, 2, 3])
def test_an_interrupted_run_ends_with_the_same_mean(
    make: Callable[[str], RunConfig], whole: State, monkeypatch: pytest.MonkeyPatch, epochs: int
) -> None:
    with pytest.raises(Stopped):
        watched(monkeypatch, Watch(epochs), make("broken"))
    resumed = load_model(fit(make("broken"), resume=True).folder).state_dict()
    assert states_equal(whole, resumed)


def test_a_run_interrupted_after_its_last_step_ends_with_the_same_mean(
    make: Callable[[str], RunConfig], whole: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise Stopped

    with monkeypatch.context() as patch:
        patch.setattr(fitting, "finish", interrupted)
        with pytest.raises(Stopped):
            fit(make("broken"))
    resumed = load_model(fit(make("broken"), resume=True).folder).state_dict()
    assert states_equal(whole, resumed)


def test_before_the_last_part_the_latest_weights_are_validated(
    tiny: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny("early", trainer=TRAINER)
    watch = Watch(1)
    with pytest.raises(Stopped):
        watched(monkeypatch, watch, config)
    stored = torch.load(config.folder / "checkpoints" / "best.ckpt", weights_only=True)
    state = {
        name.removeprefix("model."): value
        for name, value in stored["state_dict"].items()
        if name.startswith("model.")
    }
    assert states_equal(watch.states[1], state)


def test_an_average_is_over_a_part_of_the_run(tiny: Make) -> None:
    for share in (-0.1, 1.0):
        with pytest.raises(ConfigError, match=r"average in \[0, 1\)"):
            tiny(trainer={"average": share})
    with pytest.raises(ConfigError, match="leave out patience"):
        tiny(trainer={"average": 0.5, "patience": 2})
