"""Laws of atomic writing: all of a file or nothing, and nothing besides."""

import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from rhm.errors import OutputError
from rhm.files import (
    _MACHINE,
    _remove_abandoned,
    atomic_path,
    check_folder_writable,
    check_writable,
    write_text,
)


@contextmanager
def no_file_larger_than(size: int) -> Iterator[None]:
    """A disk that is as good as full: the system refuses to let a file grow past ``size``."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_file_appears_when_it_is_complete(tmp_path: Path) -> None:
    target = tmp_path / "new" / "folder" / "scene.tif"
    with atomic_path(target) as temporary:
        assert temporary.suffix == ".tif"
        assert target.parent in temporary.parents
        temporary.write_bytes(b"half")
        assert not target.exists()
        temporary.write_bytes(b"whole")
    assert target.read_bytes() == b"whole"
    assert os.listdir(target.parent) == ["scene.tif"]


def test_the_old_file_stands_until_then(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")
    with atomic_path(target) as temporary:
        temporary.write_text("new")
        assert target.read_text() == "old"
    assert target.read_text() == "new"


@pytest.mark.parametrize("failure", [RuntimeError, KeyboardInterrupt, FileNotFoundError])
def test_a_failed_block_leaves_everything_as_it_was(
    tmp_path: Path, failure: type[BaseException]
) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")

    def fail() -> None:
        with atomic_path(target) as temporary:
            temporary.write_text("new")
            raise failure

    with pytest.raises(failure):
        fail()
    assert target.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_side_files_of_a_writer_vanish(tmp_path: Path) -> None:
    target = tmp_path / "scene.tif"
    with atomic_path(target) as temporary:
        temporary.write_bytes(b"pixels")
        temporary.with_name("scene.tif.aux.xml").write_text("<side/>")
    assert os.listdir(tmp_path) == ["scene.tif"]


def test_permissions_are_those_of_any_new_file(tmp_path: Path) -> None:
    (tmp_path / "plain.txt").write_text("x")
    write_text(tmp_path / "atomic.txt", "x")
    with atomic_path(tmp_path / "private.txt") as temporary:
        temporary.touch(mode=0o600)  # as safetensors does
    names = ("plain.txt", "atomic.txt", "private.txt")
    assert len({os.stat(tmp_path / name).st_mode for name in names}) == 1


def test_a_full_disk_is_reported_in_one_line_and_keeps_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")
    with no_file_larger_than(100), pytest.raises(OutputError) as caught:
        write_text(target, "new" * 1000)
    assert str(caught.value) == f"cannot write {target}: {os.strerror(errno.EFBIG)}"
    assert target.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_a_folder_that_cannot_be_made_is_reported_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match=r"^cannot write to .*file/below: ") as caught:
        write_text(tmp_path / "file" / "below" / "a.txt", "x")
    assert "\n" not in str(caught.value)


def test_a_name_taken_by_a_folder_is_reported_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    with pytest.raises(OutputError, match=r"^cannot write .*taken: "):
        write_text(tmp_path / "taken", "x")
    assert os.listdir(tmp_path) == ["taken"]


def test_text_is_utf_8(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "Kraków, 東京\n")
    assert (tmp_path / "a.txt").read_bytes() == "Kraków, 東京\n".encode()


def test_side_files_of_the_old_file_go_with_it(tmp_path: Path) -> None:
    for name in ("a.tif", "a.tif.aux.xml", "a.tif.ovr", "a.tif.msk", "b.tif.ovr"):
        (tmp_path / name).write_text("old")
    write_text(tmp_path / "a.tif", "new")
    assert sorted(os.listdir(tmp_path)) == ["a.tif", "b.tif.ovr"]


def test_side_files_stay_if_the_file_cannot_be_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a.tif", "a.tif.ovr"):
        (tmp_path / name).write_text("old")

    def refuse(*_: object) -> None:
        raise PermissionError(errno.EACCES, "in use")

    monkeypatch.setattr("rhm.files.os.replace", refuse)
    with pytest.raises(OutputError, match="in use"):
        write_text(tmp_path / "a.tif", "new")
    assert {name: (tmp_path / name).read_text() for name in os.listdir(tmp_path)} == {
        "a.tif": "old",
        "a.tif.ovr": "old",
    }


def test_what_a_killed_process_left_is_removed_and_what_others_write_is_not(
    tmp_path: Path,
) -> None:
    killed = tmp_path / ".rhm.killed"
    killed.mkdir()
    (killed / "lock").touch()
    (killed / "part0.tif").touch()
    with atomic_path(tmp_path / "a.txt") as temporary:
        _remove_abandoned.cache_clear()
        write_text(tmp_path / "b.txt", "b")
        assert temporary.parent.is_dir()
        temporary.write_text("a")
    assert sorted(os.listdir(tmp_path)) == ["a.txt", "b.txt"]


@pytest.mark.skipif(os.name == "nt", reason="Windows cannot ask whether a process lives")
@pytest.mark.parametrize("prefix", [".rhm-begun.", ".rhm-ended."])
def test_a_folder_that_nobody_had_locked_yet_is_removed_with_its_process(
    tmp_path: Path, prefix: str
) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        owned = tmp_path / f"{prefix}{_MACHINE}-{process.pid}-abc"
        elsewhere = tmp_path / f"{prefix}00000000-{process.pid}-abc"
        for folder in (owned, elsewhere):
            folder.mkdir()
        _remove_abandoned.cache_clear()
        write_text(tmp_path / "a.txt", "a")
        assert owned.is_dir()
    _remove_abandoned.cache_clear()
    write_text(tmp_path / "b.txt", "b")
    assert sorted(os.listdir(tmp_path)) == sorted([elsewhere.name, "a.txt", "b.txt"])


RACING = """
import sys
from pathlib import Path
from rhm import files
for number in range(40):
    files._remove_abandoned.cache_clear()
    files.write_text(Path(sys.argv[1]) / f"{sys.argv[2]}-{number}.txt", "x")
"""


def test_writers_in_one_folder_do_not_disturb_each_other(tmp_path: Path) -> None:
    writers = [
        subprocess.Popen([sys.executable, "-c", RACING, str(tmp_path), str(number)])
        for number in range(4)
    ]
    assert [writer.wait(timeout=120) for writer in writers] == [0] * 4
    assert len(list(tmp_path.glob("*.txt"))) == 160
    assert len(os.listdir(tmp_path)) == 160


def test_what_cannot_be_written_is_known_before(tmp_path: Path) -> None:
    """Law: the check refuses what writing would, and leaves no file."""
    file = tmp_path / "file"
    file.write_text("old")
    check_writable(file)
    check_writable(tmp_path / "new" / "a.txt")
    check_folder_writable(tmp_path / "new" / "folder")
    assert os.listdir(tmp_path) == ["file"]
    assert file.read_text() == "old"
    names = (tmp_path, file / "a.txt", tmp_path / ("x" * 300), tmp_path / "x\0")
    for target in names:
        with pytest.raises(OutputError, match=r"^cannot write "):
            check_writable(target)


@pytest.mark.parametrize(
    "name", ["file", "file/below", "x" * 300, "x\0", "x" * 300 + "/below", "loop"]
)
def test_a_folder_that_cannot_be_is_told_at_once(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(OutputError, match=r"^cannot write to "):
        check_folder_writable(tmp_path / name)
    assert sorted(os.listdir(tmp_path)) == ["file", "loop"]


@pytest.mark.skipif(os.name == "nt", reason="pipes have names")
def test_pipes_and_circles_are_not_replaced(tmp_path: Path) -> None:
    """As a file would replace ``/dev/null``, for whoever may do so."""
    pipe, loop = tmp_path / "pipe", tmp_path / "loop"
    os.mkfifo(pipe)
    loop.symlink_to("loop")
    for target, told in ((pipe, "pipe or device"), (loop, "symbolic links")):
        with pytest.raises(OutputError, match=told):
            check_writable(target)
        with pytest.raises(OutputError, match=told):
            write_text(target, "new")
    assert pipe.is_fifo()
    assert loop.is_symlink()
