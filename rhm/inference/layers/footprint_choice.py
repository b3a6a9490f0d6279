"""Which footprints of a scene are used, where those of several predictions lie in one folder.

A prediction in another format leaves the footprints of an earlier one where they are, because a
user may want both. Its mask, however, replaces that of the earlier one, and a layer from another
threshold or model does not belong to it. The fingerprint that a prediction stores in all of its
files tells.
"""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from rhm.errors import OutputError, printable
from rhm.inference.layers.vector_files import stamp_of_footprints


@dataclass(frozen=True)
class FootprintChoice:
    """The footprints of a scene that are used, and those that are not.

    Attributes:
        path: file of the footprints that are used.
        left_out: files of the same scene in other formats.
        by_mask: whether the same prediction wrote the file and the mask. Otherwise the file is the
            newest one.
        stale: whether another prediction than that of the mask wrote the file.
    """

    path: Path
    left_out: tuple[Path, ...] = ()
    by_mask: bool = False
    stale: bool = False


def choose_footprints(files: Sequence[Path], fingerprint: str | None) -> FootprintChoice:
    """Choose the footprints that belong to the mask of a scene.

    A file without stamp, which a user may have saved under the name of a result, is chosen if it is
    the newest, and no file has the stamp of the mask's prediction.

    Args:
        files: at least one file of footprints of the scene, in different formats.
        fingerprint: fingerprint of the prediction that wrote the mask; None or empty if there is no
            mask, or no prediction wrote it.
    """
    if len(files) == 1 and not fingerprint:
        return FootprintChoice(files[0])
    stamps = [_fingerprint_in(file) for file in files]
    of_mask = bool(fingerprint) and fingerprint in stamps
    if of_mask:
        path = files[stamps.index(fingerprint)]
    else:
        path = files[0] if len(files) == 1 else max(files, key=_modified)
    others = tuple(file for file in files if file != path)
    known = fingerprint and stamps[files.index(path)]
    return FootprintChoice(path, others, of_mask, bool(known) and not of_mask)


def notes_on_choices(choices: Iterable[FootprintChoice]) -> list[str]:
    """Return what a user should know of choices: files left out, and files of other predictions.

    There are at most two notes, however many scenes there are.
    """
    choices = list(choices)
    notes = []
    left_out = [(each, file) for each in choices for file in each.left_out]
    if left_out:
        (chosen, file), count = left_out[0], len(left_out)
        why = "belongs to the mask" if chosen.by_mask else "is newer"
        others = f" (and {count - 1} more such files)" if count > 1 else ""
        used = printable(chosen.path.name)
        notes.append(f"{printable(file.name)} is left out, because {used} {why}{others}")
    stale = [each.path for each in choices if each.stale]
    if stale:
        others = f" (and {len(stale) - 1} more such files)" if len(stale) > 1 else ""
        notes.append(
            f"{printable(stale[0].name)} is not from the prediction that wrote the mask beside it"
            f"{others}: predict again to get footprints that belong to the mask"
        )
    return notes


def _fingerprint_in(file: Path) -> str | None:
    """Return the fingerprint of the prediction that wrote footprints; None if there is none."""
    with suppress(OutputError):  # whoever reads the file tells why it cannot be read
        stamp = stamp_of_footprints(file)
        return None if stamp is None else stamp.fingerprint
    return None


def _modified(file: Path) -> float:
    try:
        return file.stat().st_mtime
    except OSError:
        return float("-inf")
