"""What a section shows of runs: its fragment as the page renders it, taken apart."""

from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path

from rhm.report.pages import environment
from rhm.report.runs import load_run
from rhm.report.section import Comparison, Section

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'&{{ 7 * 7 }}"
_EMPTY = {"input", "br", "img"}


@dataclass
class Table:
    """A table's caption, and the texts of its cells row by row, those of its head first."""

    caption: str = ""
    rows: list[list[str]] = field(default_factory=list)

    @property
    def body(self) -> list[list[str]]:
        """The rows below the first, which names the columns."""
        return self.rows[1:]


class Shown(HTMLParser):
    """Tags, attributes, tables and texts of a section.

    Attributes:
        tags: names of the tags in their order.
        attributes: of all tags, by name and value.
        tables: in their order.
        headings: the texts of h3 and h4.
        captions: the texts under which figures stand.
        titles: the tooltips of charts.
        text: all of it, white space as one blank.
    """

    def __init__(self, section: Section) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.tables: list[Table] = []
        self._texts: list[tuple[str, list[str]]] = []
        self._open: list[tuple[str, list[str]]] = []
        self._pieces: list[str] = []
        self.feed(environment().from_string(section.fragment).render(section.view))
        self.close()
        assert not self._open, "a tag is not closed"

    @property
    def text(self) -> str:
        return _text(self._pieces)

    @property
    def headings(self) -> list[str]:
        return [*self.of("h3"), *self.of("h4")]

    @property
    def captions(self) -> list[str]:
        return self.of("figcaption")

    @property
    def titles(self) -> list[str]:
        return self.of("title")

    def of(self, tag: str) -> list[str]:
        """The texts of the elements of a name."""
        return [_text(pieces) for name, pieces in self._texts if name == tag]

    def values(self, name: str) -> list[str]:
        """The values of an attribute."""
        return [value for key, value in self.attributes if key == name]

    def table(self, caption: str) -> Table:
        """The only table whose caption begins like this."""
        (found,) = [table for table in self.tables if table.caption.startswith(caption)]
        return found

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_startendtag(tag, attrs)
        if tag in _EMPTY:
            return
        self._open.append((tag, []))
        if tag == "table":
            self.tables.append(Table())
        elif tag == "tr":
            self.tables[-1].rows.append([])

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        opened, pieces = self._open.pop()
        assert opened == tag
        self._texts.append((tag, pieces))
        if tag in ("td", "th"):
            self.tables[-1].rows[-1].append(_text(pieces))
        elif tag == "caption":
            self.tables[-1].caption = _text(pieces)

    def handle_data(self, data: str) -> None:
        self._pieces.append(data)
        for _, pieces in self._open:
            pieces.append(data)


def compared(*folders: Path) -> Comparison:
    """The comparison of the runs in some folders."""
    return Comparison.of(load_run(folder) for folder in folders)


def check_harmless(shown: Shown) -> None:
    """Check that the text ``HOSTILE`` is shown as text, and nothing of it has become markup."""
    assert HOSTILE in shown.text
    assert not {"script", "img"} & set(shown.tags)
    assert not [name for name, _ in shown.attributes if name.startswith("on")]


def _text(pieces: list[str]) -> str:
    return " ".join("".join(pieces).split())
