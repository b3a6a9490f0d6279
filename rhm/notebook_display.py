"""How objects show themselves in a notebook: a table of facts beside a small picture.

Matplotlib is imported when something is drawn, and its backend is never changed.
"""

import base64
import io
import logging
from abc import ABC, abstractmethod
from collections.abc import Mapping
from html import escape
from typing import TYPE_CHECKING

from rhm.errors import RhmError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_LOG = logging.getLogger(__name__)

_PICTURE_INCHES = (4.4, 2.6)
_DPI = 100
_LONGEST_TEXT = 200

_DIV = '<div style="display:flex;flex-wrap:wrap;gap:1.5em;align-items:flex-start">'
_CELL = "text-align:left;vertical-align:top"


class NotebookDisplay(ABC):
    """Base class of objects that show themselves: a class has ``plot`` and ``_facts``."""

    def plot(self, axes: "Axes | None" = None) -> "Axes":
        """Draw a picture of the object.

        Args:
            axes: Matplotlib axes to draw on; by default, those of a new figure.

        Returns:
            The axes.

        Raises:
            RhmError: what would be drawn cannot be read.
            ValueError: there is nothing to draw.
        """
        if axes is None:
            from matplotlib import pyplot

            _, axes = pyplot.subplots(layout="constrained")
        self._draw(axes)
        return axes

    @abstractmethod
    def _draw(self, axes: "Axes") -> None: ...

    @abstractmethod
    def _facts(self) -> Mapping[str, object]:
        """Return what the table says, by name."""

    def _repr_html_(self) -> str:
        """Return the table and the picture as HTML with no script, in which all text is escaped.

        An object whose files cannot be read any more shows why instead of its picture.
        """
        rows, picture = "", ""
        try:
            rows = "".join(
                f'<tr><th style="{_CELL}">{_text(name)}</th><td style="{_CELL}">{_text(value)}</td>'
                "</tr>"
                for name, value in self._facts().items()
            )
            picture = f'<img alt="" src="data:image/png;base64,{self._png()}">'
        except (RhmError, OSError, ValueError) as error:
            # A notebook must be able to show an object whose files have gone.
            _LOG.debug("no picture", exc_info=True)
            picture = f"<em>{_text(error)}</em>"
        name = _text(type(self).__name__)
        return f"{_DIV}<table><caption>{name}</caption>{rows}</table>{picture}</div>"

    def _png(self) -> str:
        from matplotlib.figure import Figure

        figure = Figure(_PICTURE_INCHES, dpi=_DPI, layout="constrained")
        self._draw(figure.subplots())
        with io.BytesIO() as file:
            figure.savefig(file, format="png")
            return base64.b64encode(file.getvalue()).decode("ascii")


def _text(value: object) -> str:
    """Return a value as escaped text that a page can hold."""
    text = str(value)
    if len(text) > _LONGEST_TEXT:
        text = f"{text[:_LONGEST_TEXT]}…"
    return escape(text.encode("utf-8", "replace").decode("utf-8"))
