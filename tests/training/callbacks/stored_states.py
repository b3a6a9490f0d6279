"""Checkpoints for tests that train nothing."""

from pathlib import Path
from typing import Any
from zipfile import ZIP_STORED, ZipFile


def checkpoint(state: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """Return what Lightning writes, as far as it is checked; None removes a part."""
    parts = {
        "epoch": 0,
        "global_step": 2,
        "state_dict": state,
        "loops": {},
        "callbacks": {},
        "optimizer_states": [],
        "lr_schedulers": [],
    } | changes
    return {name: part for name, part in parts.items() if part is not None}


def rotten(path: Path) -> None:
    """Change one byte in the middle of the largest tensor of a checkpoint."""
    with ZipFile(path) as archive:
        largest = max(archive.infolist(), key=lambda member: member.file_size)
        content = archive.read(largest)
    place = path.read_bytes().index(content) + len(content) // 2
    with path.open("r+b") as file:
        file.seek(place)
        file.write(bytes([content[len(content) // 2] ^ 0x41]))


def rewritten(path: Path, member: str, content: bytes, method: int = ZIP_STORED) -> None:
    """Replace what a member of a checkpoint contains, with the right checksum."""
    with ZipFile(path) as archive:
        members = {each.filename: archive.read(each) for each in archive.infolist()}
    with ZipFile(path, "w", method) as archive:
        for name, before in members.items():
            archive.writestr(name, content if name.endswith(member) else before)
