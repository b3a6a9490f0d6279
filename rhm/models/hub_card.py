"""Model cards, and those for model hubs: the card of a model below a header that hubs read.

The keys are those of the model cards of the Hugging Face Hub, which other hubs read as well.
"""

import os
import re
from pathlib import Path

import yaml

from rhm.errors import ModelFileError, printable
from rhm.models.named_models import CARD, MODEL
from rhm.models.spec import ModelSpec

_OTHER = "other"
_MOST_BYTES = 1 << 20
_HEADER = re.compile(r"---\r?\n.*?\n---\r?\n", re.DOTALL)

LICENCES = {
    "CC0-1.0": "cc0-1.0",
    "CC-BY-4.0": "cc-by-4.0",
    "CC-BY-SA-4.0": "cc-by-sa-4.0",
    "CC-BY-NC-4.0": "cc-by-nc-4.0",
    "ODbL-1.0": "odbl",
    "MIT": "mit",
    "Apache-2.0": "apache-2.0",
    "BSD-3-Clause": "bsd-3-clause",
}
"""Licences that hubs know, by their SPDX identifiers."""


def card_of(file: Path) -> str:
    """Return the card beside a model file, without the header for hubs; empty if there is none.

    Raises:
        ModelFileError: it cannot be read.
    """
    for name in (CARD, "README.md"):
        card = file.with_name(name)
        if file.name == MODEL and os.path.isfile(card):
            try:
                with card.open("rb") as opened:
                    text = opened.read(_MOST_BYTES).decode("utf-8", errors="replace")
            except OSError as error:
                raise ModelFileError(f"{card} cannot be read: {error.strerror or error}") from error
            header = _HEADER.match(text)
            return printable(text[header.end() if header else 0 :], keep="\n\t").strip() + "\n"
    return ""


def hub_card(spec: ModelSpec, card: str, *, name: str, licence: str) -> str:
    """Return the model card of a model, with the header of a hub.

    Args:
        spec: description of the model.
        card: the card in Markdown; if it is empty, it is a title and what the description says.
        name: name of the model.
        licence: licence of the model: a licence in ``LICENCES``, in capitals or not and with spaces
            or hyphens, or any other words.
    """
    known = _known_licence(licence)
    header: dict[str, object] = {"license": known or _OTHER}
    if known is None:
        header["license_name"] = licence.strip() or "unknown"
    header |= {
        "library_name": "rhm",
        "pipeline_tag": "image-segmentation",
        "tags": ["building-footprints", "remote-sensing", "semantic-segmentation", spec.encoder],
    }
    text = card.strip() or printable(_facts(spec, name), keep="\n")
    return f"---\n{yaml.safe_dump(header, sort_keys=False)}---\n\n{text}\n"


def _known_licence(licence: str) -> str | None:
    """Return the identifier that hubs have for a licence; None for licences they do not know."""
    written = re.sub(r"[\s_-]+", "-", licence.strip()).casefold()
    known = {spdx.casefold(): hub for spdx, hub in LICENCES.items()}
    return written if written in known.values() else known.get(written)


def _facts(spec: ModelSpec, name: str) -> str:
    size = "" if spec.gsd_m is None else f" at {spec.gsd_m:.3g} m per pixel"
    sources = ", ".join(f"`{source}`" for source in spec.sources) or "unknown imagery"
    return (
        f"# {name}\n\nFinds buildings in imagery with {spec.bands} bands{size}: "
        f"`{spec.architecture}` with the encoder `{spec.encoder}`, trained by rhm "
        f"{spec.rhm_version} on {sources}."
    )
