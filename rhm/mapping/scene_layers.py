"""The footprints of predicted scenes, as they lie in folders of results."""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from glob import glob, has_magic
from pathlib import Path

from rhm.errors import CatalogError, printable
from rhm.inference.layers.footprint_choice import FootprintChoice, choose_footprints
from rhm.inference.layers.vector_files import FORMATS
from rhm.inference.scene_lists.scene_dates import day_of
from rhm.inference.scene_lists.scene_names import NamedScene, with_distinct_names
from rhm.inference.tiling.storage import DATE, fingerprint_of

_FOOTPRINTS, _MASK = "_buildings", "_mask.tif"


@dataclass(frozen=True)
class SceneLayer:
    """The footprints of a predicted scene.

    Attributes:
        name: name of the scene, different from all others that are merged.
        vectors: file of the footprints.
        mask: mask of the prediction, which tells where the scene ends; None if it is not there.
        date: day of the scene as YYYY-MM-DD, or None.
        choice: how the file was chosen, if that is known.
    """

    name: str
    vectors: Path
    mask: Path | None
    date: str | None
    choice: FootprintChoice | None = None


def find_layers(named: Iterable[str]) -> list[SceneLayer]:
    """Return the footprints that a user names, in the order of their scenes' names.

    Of a scene whose footprints are in a folder in several formats, those that belong to its mask
    are returned. A file that is named is used whatever lies beside it.

    Args:
        named: folders that ``rhm predict`` wrote, patterns, or files of footprints. The mask of a
            prediction is expected beside its footprints.

    Raises:
        CatalogError: a file does not exist, or a folder or pattern has no footprints.
    """
    choices: dict[str, FootprintChoice] = {}
    for word in named:
        for choice in _choices(word):
            choices.setdefault(str(choice.path.resolve()), choice)
    return _layers(list(choices.values()))


def layers_of(files: Sequence[Path]) -> list[SceneLayer]:
    """Return the layers of different files of footprints, in the order of their scenes' names."""
    return _layers([_choice([path]) for path in files])


def _layers(choices: Sequence[FootprintChoice]) -> list[SceneLayer]:
    named = [
        NamedScene(str(each.path), each.path.stem.removesuffix(_FOOTPRINTS)) for each in choices
    ]
    layers = map(_layer, with_distinct_names(named), choices)
    return sorted(layers, key=lambda layer: layer.name)


def _layer(scene: NamedScene, choice: FootprintChoice) -> SceneLayer:
    mask = _mask_of(choice.path)
    if not mask.is_file():
        return SceneLayer(scene.name, choice.path, None, None, choice)
    date = day_of(fingerprint_of(mask, DATE))
    return SceneLayer(scene.name, choice.path, mask, date, choice)


def _mask_of(vectors: Path) -> Path:
    return vectors.with_name(vectors.stem.removesuffix(_FOOTPRINTS) + _MASK)


def _choice(files: Sequence[Path]) -> FootprintChoice:
    """Choose one of the files of footprints of a scene."""
    return choose_footprints(files, fingerprint_of(_mask_of(files[0])))


def _choices(word: str) -> list[FootprintChoice]:
    path = Path(word)
    with suppress(OSError):
        if path.is_dir():
            return [_choice(files) for files in _in_folder(path)]
    return [_choice([file]) for file in _files(word)]


def _files(word: str) -> list[Path]:
    with suppress(OSError):
        if Path(word).is_file():
            return [Path(word)]
    if has_magic(word):
        matching = sorted(Path(file) for file in glob(word, recursive=True) if Path(file).is_file())
        if matching:
            return matching
        raise CatalogError(f"no file matches {printable(word)}")
    raise CatalogError(f"no such file or folder: {printable(word)}")


def _in_folder(folder: Path) -> list[list[Path]]:
    """Return the footprints of all scenes in a folder, all formats of each scene together."""
    found: dict[str, list[Path]] = {}
    for suffix in FORMATS:
        for path in sorted(folder.glob(f"*{_FOOTPRINTS}{suffix}")):
            found.setdefault(path.stem, []).append(path)
    if not found:
        raise CatalogError(f"{folder} has no footprints: name a folder of `rhm predict -o`")
    return list(found.values())
