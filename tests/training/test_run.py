"""A run's folder; laws: what is begun is read back, and attempts join without overlap."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rhm.errors import ConfigError
from rhm.training.config import RunConfig
from rhm.training.run import Run, environment
from tests.training.callbacks.stored_states import checkpoint

Make = Callable[..., RunConfig]


def test_what_was_asked_is_in_the_folder(tiny: Make) -> None:
    config = tiny("asked")
    run = Run.begin(config)
    assert run.folder == config.folder
    assert run.config == config
    assert json.loads((run.folder / "environment.json").read_text()) == environment()
    assert {"python", "machine", "rhm", "torch"} <= set(environment())


@pytest.mark.parametrize("file", ["checkpoints/last.ckpt", "model.safetensors"])
def test_a_run_with_results_is_not_begun_again(tiny: Make, file: str) -> None:
    config = tiny("once")
    Run.refuse_existing(config)
    run = Run.begin(config)
    (run.folder / "checkpoints").mkdir()
    (run.folder / file).touch()
    for begin in (Run.begin, Run.refuse_existing):
        with pytest.raises(ConfigError, match="--resume") as error:
            begin(config)
        assert "\n" not in str(error.value)


def test_an_attempt_that_failed_at_once_does_not_block_the_next(tiny: Make) -> None:
    config = tiny("failed", seed=1)
    run = Run.begin(config)
    attempt(run.folder, 0, range(3), 0.5)
    Run.refuse_existing(config)
    again = Run.begin(tiny("failed", seed=2))
    assert again.config.seed == 2
    assert again.next_attempt() == 0


def test_only_one_process_trains_a_run(tiny: Make) -> None:
    run = Run.begin(tiny("locked"))
    with run.locked():
        other = Run(run.folder)
        with pytest.raises(ConfigError, match="another process is training"), other.locked():
            pass
    with run.locked():
        pass
    assert not (run.folder / ".lock").exists()


def test_a_run_is_resumed_with_its_own_configuration_only(tiny: Make, tmp_path: Path) -> None:
    config = tiny("again")
    with pytest.raises(ConfigError, match="no run to resume"):
        Run.resume(config)
    begun = Run.begin(config)
    assert Run.resume(config) == begun
    with pytest.raises(ConfigError, match="'seed'"):
        Run.resume(tiny("again", seed=5))
    # A folder of runs may have been moved.
    begun.folder.parent.rename(tmp_path / "moved")
    moved = config.model_copy(update={"output": str(tmp_path / "moved")})
    assert Run.resume(moved).folder == tmp_path / "moved" / "again"


def test_a_name_that_no_folder_can_have_is_refused(tiny: Make) -> None:
    Run.refuse_existing(tiny("é" * 100))
    for name in ("é" * 101, "n" * 300):
        with pytest.raises(ConfigError, match="at most 200 bytes"):
            Run.begin(tiny(name))


def test_what_trains_nothing_is_resumed_whatever_the_method_of_its_adapter(tiny: Make) -> None:
    target = {"domains": ["birch_satellite"], "method": "adabn", "source_free": True}

    def measuring(base: str, **adapter: str) -> RunConfig:
        return tiny(
            "measured", adapter={"base": base, **adapter}, target=target, data={"sources": []}
        )

    begun = Run.begin(measuring("b.safetensors"))
    assert Run.resume(measuring("b.safetensors", method="batch-norm")) == begun
    with pytest.raises(ConfigError, match="'adapter'"):
        Run.resume(measuring("c.safetensors"))


def test_a_run_is_resumed_with_its_own_imagery_only(tiny: Make) -> None:
    run = Run.begin(tiny("seen"))
    run.check_data("a" * 64)  # a run of an earlier version, which did not remember it
    run.remember_data("a" * 64)
    run.check_data("a" * 64)
    with pytest.raises(ConfigError, match="imagery is no longer that") as error:
        run.check_data("b" * 64)
    assert "\n" not in str(error.value)


def test_checkpoints_and_attempts_are_counted(tmp_path: Path) -> None:
    run = Run(tmp_path)
    assert (run.last_checkpoint({}), run.next_attempt()) == (None, 0)
    for number in range(3):
        (tmp_path / "logs" / f"attempt_{number}").mkdir(parents=True)
    run.last.parent.mkdir()
    assert run.last == tmp_path / "checkpoints" / "last.ckpt"
    torch.save(checkpoint({}), run.last)
    assert (run.last_checkpoint({}), run.next_attempt()) == (run.last, 3)


def attempt(folder: Path, number: int, steps: range, value: float) -> None:
    path = folder / "logs" / f"attempt_{number}" / "metrics.csv"
    path.parent.mkdir(parents=True)
    pandas.DataFrame({"step": list(steps), "val_iou": value}).to_csv(path, index=False)


@given(st.lists(st.integers(0, 10), min_size=1, max_size=12))
def test_where_attempts_overlap_the_later_one_holds(
    tmp_path_factory: pytest.TempPathFactory, starts: list[int]
) -> None:
    """Each attempt goes on for five steps from where the one before it left a checkpoint."""
    folder = tmp_path_factory.mktemp("run")
    expected: dict[int, float] = {}
    for number, start in enumerate(starts):
        steps = range(start, start + 5)
        attempt(folder, number, steps, number / 100)
        expected = {step: held for step, held in expected.items() if step < start}
        expected |= dict.fromkeys(steps, number / 100)
    run = Run(folder)
    run.collect_metrics()
    found = pandas.read_csv(folder / "metrics.csv")
    assert dict(zip(found["step"], found["val_iou"], strict=True)) == expected
    assert run.best_scores() == {"iou": max(expected.values())}


def test_columns_on_stages_are_in_their_order(tmp_path: Path) -> None:
    path = tmp_path / "logs" / "attempt_0" / "metrics.csv"
    path.parent.mkdir(parents=True)
    stages = ("encoder[2]", "encoder[10]", "decoder.p5", "decoder.p2", "decoder")
    names = [f"{what}/{stage}" for stage in stages for what in ("compression", "discrimination")]
    columns = sorted(["nc1", "step", *names])
    pandas.DataFrame([range(len(columns))], columns=columns).to_csv(path, index=False)
    Run(tmp_path).collect_metrics(stages)
    found = pandas.read_csv(tmp_path / "metrics.csv")
    assert list(found) == ["nc1", "step", *names]
    assert found[columns].iloc[0].tolist() == list(range(len(columns)))


@pytest.mark.parametrize("damaged", ["", "\n", "\0\0\0", "a,b\n1,2,3\n4,5,6,7\n"])
def test_metrics_that_were_cut_off_do_not_end_a_run(
    tmp_path: Path, damaged: str, caplog: pytest.LogCaptureFixture
) -> None:
    attempt(tmp_path, 0, range(3), 0.5)
    attempt(tmp_path, 1, range(3), 0.5)
    (tmp_path / "logs/attempt_1/metrics.csv").write_text(damaged)
    run = Run(tmp_path)
    run.collect_metrics()
    assert run.best_scores() == {"iou": 0.5}
    assert "metrics.csv is damaged" in caplog.text


def test_metrics_that_are_a_folder_do_not_end_a_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    attempt(tmp_path, 0, range(3), 0.5)
    (tmp_path / "logs/attempt_1/metrics.csv").mkdir(parents=True)
    run = Run(tmp_path)
    run.collect_metrics()
    assert run.best_scores() == {"iou": 0.5}
    assert "attempt_1/metrics.csv is damaged" in caplog.text


@pytest.mark.parametrize("text", ["abc", "0.9.1", '"0,7"', "inf", "-inf", "9" * 400])
@pytest.mark.parametrize("column", ["val_iou", "val_loss", "train_loss"])
def test_what_is_no_number_is_no_score(tmp_path: Path, column: str, text: str) -> None:
    names = ("val_iou", "val_loss", "train_loss")
    path = tmp_path / "logs/attempt_0/metrics.csv"
    path.parent.mkdir(parents=True)
    rows = [["0.5"] * 3, ["0.4"] * 3]
    rows[0][names.index(column)] = text
    lines = [f"{step},{','.join(row)}" for step, row in enumerate(rows)]
    path.write_text("\n".join([f"step,{','.join(names)}", *lines]) + "\n")
    run = Run(tmp_path)
    run.collect_metrics()
    expected = {"iou": 0.5, "loss": 0.5}
    if column == "val_iou":
        expected = {"iou": 0.4, "loss": 0.4}
    elif column == "val_loss":
        del expected["loss"]
    assert run.best_scores() == expected
    assert len(pandas.read_csv(tmp_path / "metrics.csv")) == 2


def test_rows_without_a_step_are_left_out(tmp_path: Path) -> None:
    attempt(tmp_path, 0, range(3), 0.5)
    with (tmp_path / "logs/attempt_0/metrics.csv").open("a") as file:
        file.write("x,0.9\n,0.8\n")
    attempt(tmp_path, 1, range(3, 5), 0.6)
    run = Run(tmp_path)
    run.collect_metrics()
    assert pandas.read_csv(tmp_path / "metrics.csv")["val_iou"].tolist() == [0.5] * 3 + [0.6] * 2


def test_the_scores_of_another_step_than_the_best(tmp_path: Path) -> None:
    for step, value in enumerate((0.5, 0.4)):
        attempt(tmp_path, step, range(step, step + 1), value)
    run = Run(tmp_path)
    run.collect_metrics()
    assert run.best_scores() == {"iou": 0.5}
    assert run.best_scores(step=2) == {"iou": 0.4}
    assert run.best_scores(step=3) == {}


COPIES = ("attempt_0 (copy)", "attempt_", "attempt_x", "attempt_1.bak", "attempt_-1", "attempt_²")


@pytest.mark.parametrize("name", COPIES)
def test_a_copy_of_an_attempt_is_none(tiny: Make, name: str) -> None:
    run = Run.begin(tiny("copied"))
    attempt(run.folder, 0, range(3), 0.5)
    copy = run.folder / "logs" / name
    shutil.copytree(run.folder / "logs" / "attempt_0", copy)
    attempt(run.folder, 1, range(2, 4), 0.4)
    assert run.next_attempt() == 2
    run.collect_metrics()
    found = pandas.read_csv(run.folder / "metrics.csv")
    assert found["val_iou"].tolist() == [0.5, 0.5, 0.4, 0.4]
    Run.begin(tiny("copied"))
    assert [path.name for path in (run.folder / "logs").iterdir()] == [name]


def test_a_run_without_any_metrics_ends(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run = Run(tmp_path)
    run.collect_metrics()
    assert run.best_scores() == {}
    assert caplog.text == ""


def test_without_validation_there_are_no_scores(tmp_path: Path) -> None:
    pandas.DataFrame({"step": [0, 1], "train_loss": [0.5, 0.4]}).to_csv(
        tmp_path / "metrics.csv", index=False
    )
    assert Run(tmp_path).best_scores() == {}


@pytest.mark.parametrize(
    ("there", "following"), [([], 0), ([0], 1), ([1], 2), ([0, 2, 10], 11), (["x"], 0)]
)
def test_an_attempt_never_takes_the_folder_of_another(
    tmp_path: Path, there: list[object], following: int
) -> None:
    for number in there:
        (tmp_path / "logs" / f"attempt_{number}").mkdir(parents=True)
    assert Run(tmp_path).next_attempt() == following


@pytest.mark.parametrize("name", ["config.yaml", "card.md", "metrics.csv"])
def test_a_folder_of_somebody_else_is_refused(tiny: Make, name: str) -> None:
    config = tiny("mine")
    config.folder.mkdir(parents=True)
    (config.folder / "notes.txt").write_text("mine")  # is in nobody's way
    (config.folder / name).write_text("mine")
    for begin in (Run.refuse_existing, Run.begin):
        with pytest.raises(ConfigError, match=f"has the file {name}, and is not the folder of a"):
            begin(config)
    assert (config.folder / name).read_text() == "mine"


def test_the_environment_of_another_program_makes_no_run(tiny: Make) -> None:
    config = tiny("mine")
    config.folder.mkdir(parents=True)
    for text in ('{"production": true}', "[1]", "mine"):
        (config.folder / "environment.json").write_text(text)
        with pytest.raises(ConfigError, match=r"has the file environment\.json, and is not the"):
            Run.begin(config)
        assert (config.folder / "environment.json").read_text() == text


def test_logs_of_somebody_else_stay(tiny: Make) -> None:
    config = tiny("mine")
    names = ("logs/attempt_1/a", "updates/step_1.safetensors")
    mine = [config.folder / name for name in names]
    for file in mine:
        file.parent.mkdir(parents=True)
        file.write_text("mine")
    Run.begin(config)
    assert [file.read_text() for file in mine] == ["mine", "mine"]


def test_only_what_an_attempt_left_is_removed(tiny: Make) -> None:
    config = tiny("failed")
    run = Run.begin(config)
    attempt(run.folder, 0, range(3), 0.5)
    run.updates.mkdir()
    left = [run.folder / "logs" / "attempt_0", run.updates / "step_0000002.safetensors"]
    left[1].write_text("left")
    mine = [run.folder / "logs" / "mine.txt", run.updates / "thesis.txt"]
    for file in mine:
        file.write_text("mine")
    Run.begin(config)
    assert not any(path.exists() for path in left)
    assert [file.read_text() for file in mine] == ["mine", "mine"]
