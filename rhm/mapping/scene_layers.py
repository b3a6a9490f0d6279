"""The footprints of predicted scenes, as they lie in folders of results."""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from glob import glob, has_magic
from pathlib import Path

from rhm.errors import CatalogError, printable
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
    """

    name: str
    vectors: Path
    mask: Path | None
    date: str | None


def find_layers(named: Iterable[str]) -> list[SceneLayer]:
    """Return the footprints that a user names, in the order of their scenes' names.

    Args:
        named: folders that ``rhm predict`` wrote, patterns, or files of footprints. The mask of a
            prediction is expected beside its footprints.

    Raises:
        CatalogError: a file does not exist, or a folder or pattern has no footprints.
    """
    files: dict[str, Path] = {}
    for word in named:
        for path in _files(word):
            files.setdefault(str(path.resolve()), path)
    return layers_of(list(files.values()))


def layers_of(files: Sequence[Path]) -> list[SceneLayer]:
    """Return the layers of different files of footprints, in the order of their scenes' names."""
    named = [NamedScene(str(path), path.stem.removesuffix(_FOOTPRINTS)) for path in files]
    layers = map(_layer, with_distinct_names(named), files)
    return sorted(layers, key=lambda layer: layer.name)


def _layer(scene: NamedScene, vectors: Path) -> SceneLayer:
    mask = vectors.with_name(vectors.stem.removesuffix(_FOOTPRINTS) + _MASK)
    if not mask.is_file():
        return SceneLayer(scene.name, vectors, None, None)
    return SceneLayer(scene.name, vectors, mask, day_of(fingerprint_of(mask, DATE)))


def _files(word: str) -> list[Path]:
    path = Path(word)
    with suppress(OSError):
        if path.is_dir():
            found = _in_folder(path)
            if not found:
                raise CatalogError(f"{path} has no footprints: name a folder of `rhm predict -o`")
            return found
        if path.is_file():
            return [path]
    if has_magic(word):
        matching = sorted(Path(file) for file in glob(word, recursive=True) if Path(file).is_file())
        if matching:
            return matching
        raise CatalogError(f"no file matches {printable(word)}")
    raise CatalogError(f"no such file or folder: {printable(word)}")


def _in_folder(folder: Path) -> list[Path]:
    """Return the footprints of all scenes in a folder, in one format for each."""
    found: dict[str, Path] = {}
    for suffix in FORMATS:
        for path in sorted(folder.glob(f"*{_FOOTPRINTS}{suffix}")):
            found.setdefault(path.stem, path)
    return list(found.values())
