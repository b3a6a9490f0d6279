"""Cost: attempts add up, and a run writes what it took."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from rhm.errors import ConfigError
from rhm.training.callbacks.run_cost import Cost, collect_cost, read_cost, write_cost


def test_attempts_add_up(tmp_path: Path) -> None:
    attempts = [
        Cost(10.0, 5, 40, "CPU", 1, 900.0, None),
        Cost(2.5, 3, 24, "A GPU", 2, 700.0, 512.0),
        Cost(1.5, 1, 8, "CPU", 1, 950.0, None),
    ]
    for number, cost in enumerate(attempts):
        folder = tmp_path / "logs" / f"attempt_{number}"
        folder.mkdir(parents=True)
        (folder / "cost.json").write_text(json.dumps(asdict(cost)))
    (tmp_path / "logs" / "attempt_3").mkdir()  # killed before its first epoch was over
    total = collect_cost(tmp_path)
    assert total == Cost(14.0, 9, 72, "CPU, A GPU", 2, 950.0, 512.0)
    assert json.loads((tmp_path / "cost.json").read_text()) == asdict(total)


@pytest.mark.parametrize("name", ["attempt_0 (copy)", "attempt_", "attempt_x", "attempt_00"])
def test_a_copy_of_an_attempt_costs_nothing(tmp_path: Path, name: str) -> None:
    cost = Cost(10.0, 5, 40, "CPU", 1, 900.0, None)
    for folder in ("attempt_0", name):
        write_cost(cost, tmp_path / "logs" / folder)
    assert collect_cost(tmp_path) == cost


def test_without_attempts_there_is_no_cost(tmp_path: Path) -> None:
    assert collect_cost(tmp_path) is None
    assert not (tmp_path / "cost.json").exists()


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    cost = Cost(1.5, 1, 8, "CPU", 1, None, None)
    write_cost(cost, tmp_path)
    assert read_cost(tmp_path) == cost


def test_where_the_system_tells_no_memory_there_is_none_in_the_sum(tmp_path: Path) -> None:
    for number, memory in enumerate((None, 900.0, None)):
        write_cost(Cost(1.0, 1, 8, "CPU", 1, memory, None), tmp_path / "logs" / f"attempt_{number}")
    total = collect_cost(tmp_path)
    assert total is not None
    assert (total.memory_mb, total.device_memory_mb) == (900.0, None)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"seconds": 1}', "[" * 100_000])
def test_a_damaged_file_is_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "cost.json").write_text(text)
    with pytest.raises(ConfigError, match=r"cost\.json cannot be read: move it away") as caught:
        read_cost(tmp_path)
    assert "\n" not in str(caught.value)
