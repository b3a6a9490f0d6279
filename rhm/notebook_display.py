"""How objects show themselves in a notebook: a table of facts beside a small picture.

A class says what is drawn; this module draws it. Matplotlib is imported only then.
"""

import base64
import io
import logging
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rhm.errors import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_LOG = logging.getLogger(__name__)

_PICTURE_INCHES = (4.4, 2.6)
_DPI = 100
_LONGEST_TEXT = 200
_MOST_NAMED = 8

_DIV = '<div style="display:flex;flex-wrap:wrap;gap:1.5em;align-items:flex-start">'
_CELL = "text-align:left;vertical-align:top"


Numbers = Sequence[float] | NDArray[Any]
"""Numbers in a row."""


@dataclass(frozen=True)
class Curves:
    """Lines over a common axis.

    Attributes:
        across: label of the horizontal axis.
        up: label of the vertical axis.
        lines: values across and up of each line, by its name; names are shown if they are few.
        logarithmic: whether the vertical axis is logarithmic; otherwise it begins at 0.
    """

    across: str
    up: str
    lines: Mapping[str, tuple[Numbers, Numbers]]
    logarithmic: bool = False

    def draw(self, axes: "Axes") -> None:
        """Draw the lines."""
        for name, (across, up) in self.lines.items():
            axes.plot(across, up, label=_plain(name))
        if self.logarithmic:
            axes.set_yscale("log")
        else:
            axes.set_ylim(0.0, None)
        axes.set(xlabel=self.across, ylabel=self.up)
        if len(self.lines) <= _MOST_NAMED:
            axes.legend(fontsize="small")


@dataclass(frozen=True)
class Images:
    """Images of one size beside each other.

    Attributes:
        values: (H, W) or (H, W, 3) numbers from 0 to 1; masked values are left out.
        names: names of the images from left to right.
        scale: meaning of the values, for images (H, W): the label of their scale.
    """

    values: NDArray[Any]
    names: Sequence[str] = ()
    scale: str = ""

    def draw(self, axes: "Axes") -> None:
        """Draw the images."""
        shown = axes.imshow(self.values, vmin=0.0, vmax=1.0, cmap="magma")
        if self.scale:
            axes.get_figure().colorbar(shown, ax=axes, label=self.scale)  # type: ignore[union-attr]
        width = self.values.shape[1] / max(1, len(self.names))
        middles = (np.arange(len(self.names)) + 0.5) * width
        axes.set_xticks(middles, list(map(_plain, self.names)), fontsize="small")
        axes.set_yticks([])
        axes.tick_params(length=0)


class NotebookDisplay(ABC):
    """Base class of objects that show themselves: a class has ``_facts`` and ``_picture``."""

    def plot(self, axes: "Axes | None" = None) -> "Axes":
        """Draw a picture of the object.

        Args:
            axes: Matplotlib axes to draw on; by default, those of a new figure of pyplot.

        Returns:
            The axes.

        Raises:
            RhmError: what would be drawn cannot be read.
            ValueError: there is nothing to draw.
        """
        picture = self._picture()
        if axes is None:
            from matplotlib import pyplot

            _, axes = pyplot.subplots(layout="constrained")
        picture.draw(axes)
        return axes

    @abstractmethod
    def _picture(self) -> Curves | Images: ...

    @abstractmethod
    def _facts(self) -> Mapping[str, object]:
        """Return what the table says, by name."""

    def _repr_html_(self) -> str:
        """Return the table and the picture as HTML without scripts, in which all text is escaped.

        An object that cannot be drawn, because its files have gone for instance, says why.
        """
        rows = ""
        try:
            rows = "".join(map(_row, self._facts().items()))
            picture = f'<img alt="" src="data:image/png;base64,{_png(self._picture())}">'
        except Exception as error:  # noqa: BLE001 - an object is shown whatever is wrong with it
            _LOG.debug("%s has no picture", type(self).__name__, exc_info=True)
            picture = f"<em>{_text(error)}</em>"
        name = _text(type(self).__name__)
        return f"{_DIV}<table><caption>{name}</caption>{rows}</table>{picture}</div>"


def _row(fact: tuple[str, object]) -> str:
    name, value = map(_text, fact)
    return f'<tr><th style="{_CELL}">{name}</th><td style="{_CELL}">{value}</td></tr>'


def _text(value: object) -> str:
    """Return a value as escaped text that a page can hold."""
    text = printable(" ".join(str(value).split()))
    return escape(text if len(text) <= _LONGEST_TEXT else f"{text[:_LONGEST_TEXT]}…")


def _plain(name: str) -> str:
    """Return a name in which Matplotlib finds no formula."""
    return printable(name).replace("$", r"\$")


def _png(picture: Curves | Images) -> str:
    from matplotlib.figure import Figure

    figure = Figure(_PICTURE_INCHES, dpi=_DPI, layout="constrained")
    picture.draw(figure.subplots())
    with io.BytesIO() as file:
        figure.savefig(file, format="png")
        return base64.b64encode(file.getvalue()).decode("ascii")
