"""Finished strips on disk; laws: what was stored is there after any end, and nothing else."""

import json
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rhm.data.rasters.windows import Window
from rhm.errors import OutputError
from rhm.inference.tiling.journal import (
    GivenUpError,
    StripJournal,
    discard,
    pack,
    runtime_of_parts,
)

WIDTH = 5
STRIPS = [(0, 4), (4, 8), (8, 12), (12, 13)]
VALUES = np.arange(13 * WIDTH, dtype=np.uint8).reshape(13, WIDTH)


def journal(folder: Path, fingerprint: str = "a", *, resume: bool = True) -> StripJournal:
    return StripJournal(
        folder / ".parts", fingerprint, dtype="uint8", width=WIDTH, strips=STRIPS, resume=resume
    )


def store(into: StripJournal, *indices: int) -> None:
    for index in indices:
        into.store(index, pack(VALUES[slice(*STRIPS[index])]))


def interrupted(folder: Path, *indices: int, fingerprint: str = "a") -> None:
    """Store strips, and be stopped."""
    with suppress(KeyboardInterrupt), journal(folder, fingerprint) as kept:
        store(kept, *indices)
        raise KeyboardInterrupt


@pytest.mark.parametrize("count", [1, 3, 4, 5, 13, 99])
def test_the_scene_comes_back_from_top_to_bottom(tmp_path: Path, count: int) -> None:
    with journal(tmp_path) as kept:
        store(kept, 2, 0, 3, 1)
        assert kept.pixels == VALUES.size
        bands = list(kept.rows(count))
    assert [first for first, _ in bands] == list(range(0, 13, count))
    np.testing.assert_array_equal(np.concatenate([rows for _, rows in bands]), VALUES)
    assert list(tmp_path.iterdir()) == []


def test_what_was_finished_is_there_after_an_interruption(tmp_path: Path) -> None:
    interrupted(tmp_path, 1, 3)
    with journal(tmp_path) as kept:
        assert kept.missing() == [range(1), range(2, 3)]
        assert kept.pixels == (4 + 1) * WIDTH
        store(kept, 0, 2)
        np.testing.assert_array_equal(np.concatenate([rows for _, rows in kept.rows(6)]), VALUES)


@pytest.mark.parametrize(
    ("fingerprint", "resume"), [("b", True), ("a", False)], ids=["another prediction", "anew"]
)
def test_strips_of_another_prediction_are_discarded(
    tmp_path: Path, fingerprint: str, resume: bool
) -> None:
    interrupted(tmp_path, 0, 1)
    with journal(tmp_path, fingerprint, resume=resume) as kept:
        assert kept.missing() == [range(4)]


def damage(folder: Path, how: str) -> None:
    strip, lines = folder / "strip-000001.zlib", folder / "journal.jsonl"
    if how == "gone":
        strip.unlink()
    elif how == "short":
        strip.write_bytes(strip.read_bytes()[:-1])
    elif how == "other bytes":
        strip.write_bytes(bytes(len(strip.read_bytes())))
    elif how == "journal cut":
        lines.write_bytes(lines.read_bytes()[:-5])


@pytest.mark.parametrize("how", ["gone", "short", "other bytes", "journal cut"])
def test_a_damaged_strip_is_missing_and_the_others_are_kept(tmp_path: Path, how: str) -> None:
    interrupted(tmp_path, 0, 1)
    damage(tmp_path / ".parts", how)
    with journal(tmp_path) as kept:
        assert kept.missing() == [range(1, 4)]


@pytest.mark.parametrize("runtime", ["openvino", None])
def test_the_runtime_of_unfinished_strips_is_known(tmp_path: Path, runtime: str | None) -> None:
    assert runtime_of_parts(tmp_path / ".parts") is None
    options: dict[str, Any] = {"dtype": "uint8", "width": WIDTH, "strips": STRIPS}
    for _ in range(2):  # begun, and continued
        with (
            suppress(KeyboardInterrupt),
            StripJournal(tmp_path / ".parts", "a", resume=True, runtime=runtime, **options) as kept,
        ):
            store(kept, 0)
            raise KeyboardInterrupt
        assert runtime_of_parts(tmp_path / ".parts") == runtime


@pytest.mark.parametrize(
    "lines", [[], ["{}"], ["[]", "null"], ["{}", '{"runtime": 7}'], ["{}", "{"], ["\x00"]]
)
def test_a_journal_of_nonsense_tells_no_runtime(tmp_path: Path, lines: list[str]) -> None:
    (tmp_path / "journal.jsonl").write_text("\n".join(lines))
    assert runtime_of_parts(tmp_path) is None


@given(
    st.lists(
        st.recursive(
            st.none() | st.integers(-2, 9) | st.text(max_size=3),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(st.sampled_from(["strip", "bytes", "crc32", "damaged"]), inner)
            ),
        ).map(json.dumps)
    )
)
def test_a_journal_of_any_lines_makes_no_strip(
    tmp_path_factory: pytest.TempPathFactory, lines: list[str]
) -> None:
    folder = tmp_path_factory.mktemp("journal")
    interrupted(folder, 0)
    path = folder / ".parts" / "journal.jsonl"
    header = path.read_text().splitlines()[0]
    path.write_text("\n".join([header, *lines]))
    with journal(folder) as kept:
        assert kept.missing() == [range(4)]


def test_damage_of_the_scene_is_remembered(tmp_path: Path) -> None:
    window = Window(0, 2, 3, 1)
    with suppress(KeyboardInterrupt), journal(tmp_path) as kept:
        kept.store(0, pack(VALUES[:4]), [window])
        raise KeyboardInterrupt
    with journal(tmp_path) as kept:
        assert kept.damaged == {window}


def test_one_run_at_a_time(tmp_path: Path) -> None:
    with (
        journal(tmp_path),
        pytest.raises(OutputError, match="another run"),
        journal(tmp_path, resume=False),
    ):
        pass


def reading(kept: StripJournal, seen: list[Any]) -> Callable[[], None]:
    def read() -> None:
        try:
            for first, rows in kept.rows(4):
                seen.append((first, rows.copy()))
        except (GivenUpError, OutputError) as error:
            seen.append(error)

    return read


def test_whoever_reads_waits_for_strips_to_come(tmp_path: Path) -> None:
    seen: list[Any] = []
    with journal(tmp_path) as kept:
        store(kept, 0)
        thread = threading.Thread(target=reading(kept, seen))
        thread.start()
        store(kept, 2, 1)
        kept.give_up()
        thread.join(timeout=30)
        assert not thread.is_alive()
    *rows, last = seen
    assert [first for first, _ in rows] == [0, 4, 8]
    np.testing.assert_array_equal(np.concatenate([each for _, each in rows]), VALUES[:12])
    assert isinstance(last, GivenUpError)


def test_a_strip_that_is_damaged_under_way_is_one_line(tmp_path: Path) -> None:
    with journal(tmp_path) as kept:
        store(kept, 0)
        (tmp_path / ".parts" / "strip-000000.zlib").write_bytes(b"torn")
        with pytest.raises(OutputError, match="strip-000000") as error:
            next(kept.rows(1))
    assert "\n" not in str(error.value)


def test_what_an_interrupted_run_left_is_discarded_unless_one_is_at_work(tmp_path: Path) -> None:
    interrupted(tmp_path, 0)
    with journal(tmp_path):
        discard(tmp_path / ".parts")
        assert (tmp_path / ".parts").is_dir()
    interrupted(tmp_path, 0)
    discard(tmp_path / ".parts")
    assert list(tmp_path.iterdir()) == []
    discard(tmp_path / ".parts")


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="cannot write"), journal(tmp_path / "file"):
        pass
