"""Names of scenes, from which the names of their results follow."""

import hashlib
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from rhm.remote_files import is_address, without_secrets

_LONGEST = 100
"""Most characters of a name, so that file systems accept it with a suffix."""

_UNSAFE = re.compile(r"[^\w.-]+")


@dataclass(frozen=True)
class NamedScene(os.PathLike[str]):
    """A scene and the name of its results; it can be used wherever a path can.

    Attributes:
        path: path of the scene, or anything else that GDAL opens.
        name: name without folder and suffix.
        date: day of the image as YYYY-MM-DD, if the list of scenes says it; otherwise None.
        item: identifier of the scene in the list, such as that of a STAC item; otherwise None.
        black_is_nodata: whether the list says that pixels that are zero in all bands are nodata.
        gsd_m: ground sampling distance in metres by the list, used if the file does not specify it.
    """

    path: str
    name: str
    date: str | None = None
    item: str | None = None
    black_is_nodata: bool = False
    gsd_m: float | None = None

    @classmethod
    def of(cls, path: str) -> "NamedScene":
        """Return a scene that is named by its path alone."""
        return cls(path, stem_of(path))

    def __fspath__(self) -> str:
        return self.path


def name_of(scene: str | os.PathLike[str]) -> str:
    """Return the name of a scene: the one that it was given, or that of its file."""
    return scene.name if isinstance(scene, NamedScene) else stem_of(os.fspath(scene))


def stem_of(scene: str) -> str:
    """Return the name of a scene, without folder, suffix and the query string of a web address."""
    if is_address(scene):
        return PurePosixPath(without_secrets(scene).partition("://")[2].partition("/")[2]).stem
    return Path(scene).stem


def place_of(scene: str | os.PathLike[str]) -> str:
    """Return the location of a scene: an absolute path, or an address without its secrets."""
    name = os.fspath(scene).removeprefix("file://")
    if is_address(name):
        return without_secrets(name)
    return name if name.startswith("/vsi") else os.path.abspath(name)


def with_distinct_names(scenes: Sequence[NamedScene]) -> list[NamedScene]:
    """Give scenes of the same name different ones; all others keep theirs.

    Scenes of a list that gives them identifiers are named by these, and others by as many of their
    folders as tell them apart: ``a/visual.tif`` and ``b/visual.tif`` become ``a_visual`` and
    ``b_visual``. The names do not depend on the order of the scenes.

    Args:
        scenes: different scenes.
    """
    names = [scene.name for scene in scenes]
    for choose in (_by_item, _by_folders, _by_hash):
        for group in _of_one_name(names):
            chosen = choose([scenes[number] for number in group])
            for number, name in zip(group, chosen, strict=True):
                names[number] = name
    return [replace(scene, name=name) for scene, name in zip(scenes, names, strict=True)]


def _of_one_name(names: Sequence[str]) -> list[list[int]]:
    """Return the numbers of the scenes of each name that occurs more than once."""
    groups: dict[str, list[int]] = {}
    for number, name in enumerate(names):
        groups.setdefault(name, []).append(number)
    return [group for group in groups.values() if len(group) > 1]


def _by_item(group: Sequence[NamedScene]) -> list[str]:
    return [safe_name(scene.item) if scene.item else scene.name for scene in group]


def _by_folders(group: Sequence[NamedScene]) -> list[str]:
    """Return the names with as many of their last folders as tell all of them apart."""
    folders = [_folders(scene) for scene in group]
    count = 1
    while count < max(map(len, folders)) and not _differ(folders, count):
        count += 1
    return [
        safe_name("_".join([*own[-count:], scene.name]))
        for own, scene in zip(folders, group, strict=True)
    ]


def _differ(folders: Sequence[Sequence[str]], count: int) -> bool:
    return len({tuple(own[-count:]) for own in folders}) == len(folders)


def _by_hash(group: Sequence[NamedScene]) -> list[str]:
    digests = [hashlib.sha256(os.fsencode(place_of(scene))).hexdigest()[:12] for scene in group]
    return [
        f"{safe_name(scene.name)[: _LONGEST - 13]}_{digest}"
        for scene, digest in zip(group, digests, strict=True)
    ]


def _folders(scene: NamedScene) -> list[str]:
    path = place_of(scene).partition("://")[2] or place_of(scene)
    return [part for part in PurePosixPath(Path(path).as_posix()).parent.parts if part != "/"]


def safe_name(text: str) -> str:
    """Return a text of unknown origin as a name of files: letters, digits, dots and dashes."""
    return _UNSAFE.sub("_", text).strip("._-")[-_LONGEST:] or "scene"
