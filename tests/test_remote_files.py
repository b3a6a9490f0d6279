"""Files at addresses: what is there is fetched whole, and whatever is not is one error."""

import socket
from pathlib import Path

import pytest

from rhm.remote_files import fetched, first_bytes, is_address, read_bytes, without_secrets
from tests.web import served

CONTENT = bytes(range(256)) * 20_000  # more than one block


def test_a_file_is_fetched_whole_and_its_copy_is_temporary(tmp_path: Path) -> None:
    (tmp_path / "a b.bin").write_bytes(CONTENT)
    with served(tmp_path) as root, fetched(f"{root}a%20b.bin?token=x", most_bytes=1 << 23) as path:
        assert path.name == "a_b.bin"
        assert path.read_bytes() == CONTENT
    assert not path.exists()


@pytest.mark.parametrize("name", ["..", "%2e%2e%2fx", "", ".hidden", "a%00b"])
def test_no_address_names_a_file_outside_the_temporary_folder(name: str, tmp_path: Path) -> None:
    from rhm.remote_files import _name_of

    found = _name_of(f"https://a.org/{name}")
    assert (tmp_path / found).resolve().parent == tmp_path
    assert not found.startswith(".")


def test_only_the_beginning_may_be_read(tmp_path: Path) -> None:
    (tmp_path / "f.bin").write_bytes(CONTENT)
    with served(tmp_path) as root:
        assert first_bytes(f"{root}f.bin", 5) == CONTENT[:5]
        found = read_bytes(f"{root}f.bin", most_bytes=len(CONTENT))
        assert found == (CONTENT, f"{root}f.bin")


def test_what_cannot_be_fetched_is_an_os_error_of_one_line(tmp_path: Path) -> None:
    (tmp_path / "f.bin").write_bytes(CONTENT)
    with served(tmp_path) as root:
        for address, reason in [
            (f"{root}nothing.bin", "the server answers 404"),
            (f"{root}f.bin", "larger than 0 MB"),
            ("http://127.0.0.1:1/f.bin", "127.0.0.1"),
            ("ftp://a.org/f.bin", "ftp:// is not read"),
            ("file:///etc/hostname", "file:// is not read"),
            ("zip://x::https://a.org/f.zip", "zip:// is not read"),
            ("http://[bad/f.bin", "it is no address"),
            (f"{root}a::b.bin", "the server answers 404"),
        ]:
            with pytest.raises(OSError, match=reason) as error:
                read_bytes(address, most_bytes=100)
            assert "\n" not in str(error.value)


def test_a_package_that_is_missing_is_named() -> None:
    pytest.importorskip("fsspec")
    from importlib.util import find_spec

    if find_spec("s3fs"):
        pytest.skip("s3fs is installed")
    with pytest.raises(OSError, match=r"pip install s3fs"):
        read_bytes("s3://bucket/f.bin", most_bytes=100)


def test_an_address_is_told_from_a_path() -> None:
    assert is_address("https://a.org/x")
    assert not is_address(Path("runs/a"))
    assert not is_address("/vsicurl/x")


def test_a_server_may_send_us_on_only_if_it_is_allowed_to(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "index.html").write_bytes(CONTENT)
    with served(tmp_path) as root:
        # The server answers this with the address that ends in a slash.
        asked = f"{root}folder?sig=secret"
        read, found_at = read_bytes(asked, most_bytes=len(CONTENT))
        assert (read, found_at.partition("?")[0]) == (CONTENT, f"{root}folder/")
        with pytest.raises(OSError, match=r"sends us on to .*folder/: name that") as error:
            read_bytes(asked, most_bytes=len(CONTENT), elsewhere=False)
        assert "secret" not in str(error.value)


def test_a_silent_server_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rhm.remote_files._SILENCE_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}/f.bin"
        with pytest.raises(OSError, match="silent for 0 s"):
            read_bytes(address, most_bytes=100)


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("https://user:word@a.org/b/c.tif?sig=x/y#z", "https://a.org/b/c.tif"),
        ("s3://bucket/a@b.tif", "s3://bucket/a@b.tif"),
        ("HTTP://a.org", "HTTP://a.org"),
        ("http://[bad/x", "http://[bad/x"),
    ],
)
def test_an_address_is_shown_without_its_secrets(address: str, shown: str) -> None:
    assert without_secrets(address) == shown


def test_messages_do_not_repeat_secrets() -> None:
    for address in ("http:///x.bin?sig=secret", "http://user:secret@127.0.0.1:1/x.bin?sig=secret"):
        with pytest.raises(OSError, match=r"[a-z]") as error:
            read_bytes(address, most_bytes=100)
        assert "secret" not in str(error.value)
