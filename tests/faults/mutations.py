"""Files that are broken at random: by a disk, a transfer, an editor, or somebody of ill will."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Mutation = Callable[[bytes, np.random.Generator], bytes]

HOSTILE: tuple[Any, ...] = (
    *(None, True, -1, 0, 10**30, 1e308, float("nan"), float("inf")),
    *("", "\0", "\ud800", "x" * 70_000),
    *("../../etc/passwd", "/dev/zero", "http://127.0.0.1:9/x", "/vsicurl/http://127.0.0.1:9/x"),
    *("<script>alert(1)</script>", "2026-02-30", [], {}, [[]], {"": None}, [1] * 1000),
)
"""Values that no field of any file expects."""


def cut(data: bytes, rng: np.random.Generator) -> bytes:
    """End somewhere, as a transfer that was interrupted."""
    return data[: int(rng.integers(0, len(data)))]


def emptied(data: bytes, rng: np.random.Generator) -> bytes:
    """Lose a stretch to zeros, as a disk that was not written to the end."""
    first, last = sorted(rng.integers(0, len(data) + 1, 2).tolist())
    return data[:first] + bytes(last - first) + data[last:]


def flipped(data: bytes, rng: np.random.Generator) -> bytes:
    """Change a few bytes, most of them near the beginning, where headers are."""
    changed = bytearray(data)
    for _ in range(int(rng.integers(1, 12))):
        place = int(len(data) * rng.random() ** 3)
        changed[place] = int(rng.integers(256))
    return bytes(changed)


def moved(data: bytes, rng: np.random.Generator) -> bytes:
    """Insert a stretch of the file somewhere else in it."""
    first, last = sorted(rng.integers(0, len(data), 2).tolist())
    place = int(rng.integers(0, len(data)))
    return data[:place] + data[first:last] + data[place:]


def replaced(data: bytes, rng: np.random.Generator) -> bytes:
    """Be something else altogether."""
    beginnings = (b"II*\0", b"PK\x03\x04", b"SQLite format 3\0", b"PAR1", b"fgb\x03fgb\0")
    others = (b"", b"\0" * 100, b"{}", b"[]", b"\xff\xfe", *beginnings)
    return others[int(rng.integers(len(others)))]


BYTES: tuple[Mutation, ...] = (cut, emptied, flipped, flipped, moved, replaced)


def in_json(data: bytes, rng: np.random.Generator) -> bytes:
    """Replace a value, or the name of a field, in a JSON document."""
    document = json.loads(data)
    places = list(_places(document))
    parent, key = places[int(rng.integers(len(places)))]
    hostile = HOSTILE[int(rng.integers(len(HOSTILE)))]
    what = rng.random()
    if what < 0.15 and isinstance(parent, dict):
        del parent[key]
    elif what < 0.25:
        parent[key] = _nested(int(rng.integers(10, 20_000)))
    else:
        parent[key] = hostile
    try:
        return json.dumps(document).encode("utf-8", "surrogatepass")
    except RecursionError:
        return b"[" * 20_000


def _nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


def _places(document: Any) -> Any:
    keys = document if isinstance(document, dict) else range(len(document))
    for key in list(keys):
        yield document, key
        if isinstance(document[key], dict | list) and document[key]:
            yield from _places(document[key])


def in_yaml(data: bytes, rng: np.random.Generator) -> bytes:
    """Replace the value of a line of a YAML document, or add what only YAML has."""
    lines = data.decode().splitlines()
    texts = (
        *("2026-99-99", "!!python/object:os.system x", "&a [*a]", "*nowhere", "9" * 5000),
        *("{" * 3000, "[" * 3000, "!!binary x", "0x" + "f" * 3000, "\t", "- - -", "? ", "'"),
        *('"\\ud800"', "~", ".nan", "-.inf", "1:2:3", "<<: *x", "{a: &b [1], c: *b}", "null"),
        *("!!set {a}", "|", ">"),
    )
    place = int(rng.integers(len(lines)))
    name = lines[place].partition(":")[0]
    lines[place] = f"{name}: {texts[int(rng.integers(len(texts)))]}"
    return "\n".join(lines).encode()


def mutate(path: Path, rng: np.random.Generator, *others: Mutation) -> str:
    """Break a file in place, and return how."""
    choices = [*BYTES, *others * 4]
    mutation = choices[int(rng.integers(len(choices)))]
    path.write_bytes(mutation(path.read_bytes(), rng))
    return mutation.__name__
