"""Pages: the report as one self-contained HTML page, and its numbers as JSON."""

import base64
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from rhm.errors import ConfigError
from rhm.files import staged_paths
from rhm.report.numbers import count, number, signed
from rhm.report.runs import load_runs
from rhm.report.section import Comparison, Section
from rhm.report.sections import build_sections

FORMAT = 2
"""Version of ``report.json``."""


def write_report(runs: Sequence[Path], destination: Path) -> Path:
    """Write the cross-domain report of evaluated runs.

    Args:
        runs: folders of runs that contain ``evaluation/scores.json``.
        destination: path of the HTML page. All numbers on it are also written beside it, under the
            same name with the suffix ``.json``. Equal input gives equal files, which are written
            both or neither.

    Returns:
        Path of the page.

    Raises:
        ConfigError: no runs are given, the scores of a run are missing or malformed, or the
            picture of an example is missing, not a PNG, or outside the evaluation folder.
        OutputError: the files cannot be written.
    """
    destination = Path(destination)
    numbers = destination.with_suffix(".json")
    if numbers == destination:
        raise ConfigError(f"{destination} is the file for the numbers: end the page with .html")
    if not runs:
        raise ConfigError("no runs given: name at least one run folder")
    folders = list(dict.fromkeys(Path(run).resolve() for run in runs))
    sections = build_sections(Comparison.of(load_runs(folders)))
    page = render(sections, numbers.name)
    text = json.dumps(document(sections), indent=1, allow_nan=False) + "\n"
    with staged_paths([numbers, destination]) as (new_numbers, new_page):
        new_numbers.write_text(text, encoding="utf-8")
        new_page.write_text(page, encoding="utf-8")
    return destination


def document(sections: Sequence[Section]) -> dict[str, Any]:
    """Return the numbers of the report as JSON-ready values, without pictures and outlines."""
    numbers: dict[str, Any] = {"format": FORMAT}
    for section in sections:
        numbers |= section.numbers
    # For compatibility, these two are the last in the file, wherever they are on the page.
    for name in ("matrix", "gallery"):
        numbers[name] = numbers.pop(name)
    return numbers


def environment() -> Environment:
    """Return the environment of the templates, which escapes all text and allows no gaps."""
    templates = Environment(
        loader=PackageLoader("rhm.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters |= {"number": number, "signed": signed, "count": count}
    return templates


def script_hash(script: str) -> str:
    """Return the source expression that allows only this script in a Content-Security-Policy."""
    digest = hashlib.sha256(script.encode("utf-8")).digest()
    return f"'sha256-{base64.b64encode(digest).decode('ascii')}'"


def render(sections: Sequence[Section], numbers_name: str) -> str:
    """Return the page as self-contained HTML.

    Args:
        sections: sections in the order of the page.
        numbers_name: name of the file with the numbers.
    """
    templates = environment()

    def contents(section: Section) -> str:
        return templates.from_string(section.fragment).render(section.view).strip("\n")

    scripts = [
        templates.from_string(section.script).render()
        for section in sections
        if section.shown and section.script
    ]
    return templates.get_template("report.html").render(
        sections=sections,
        contents=contents,
        scripts=scripts,
        script_hash=script_hash,
        numbers_name=numbers_name,
    )
