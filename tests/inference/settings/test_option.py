"""An option is declared once; its declaration determines checks, parsing and help."""

from dataclasses import dataclass

import pytest

from rhm.errors import ConfigError
from rhm.inference.settings.option import check_options, option, options_of, part_of


@dataclass(frozen=True)
class Shape:
    side: int = option(8, "Side in pixels.", least=1)

    def __post_init__(self) -> None:
        check_options(self)


@dataclass(frozen=True, kw_only=True)
class Drawing(Shape):
    share: float = option(0.5, "Share of ink.", least=0, most=1, depends="the paper's")
    ink: str = option("red", "Colour: {choices}.", choices=lambda: ("red", "blue"), noun="colour")
    holes: tuple[int, ...] | None = option(
        None, "Holes, as 1+2.", parse=lambda text: tuple(map(int, text.split("+")))
    )
    suffix: str = option(
        ".svg",
        "Format: {choices}.",
        choices=lambda: ("svg", "png", "pdf"),
        command="png",
        parse=lambda name: f".{name}",
    )
    comment: str = "not an option"


def test_a_dataclass_is_what_it_would_be_without_options() -> None:
    drawing = Drawing(side=3)
    assert (drawing.side, drawing.share, drawing.ink, drawing.holes) == (3, 0.5, "red", None)
    assert Drawing.side == 8
    assert list(options_of(Drawing)) == ["side", "share", "ink", "holes", "suffix"]
    assert options_of(drawing) == options_of(Drawing)
    assert part_of(drawing, Shape) == Shape(3)


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"side": 0}, "side must be at least 1, got 0"),
        ({"share": 1.1}, "share must be between 0 and 1, got 1.1"),
        ({"share": float("nan")}, "share must be between 0 and 1, got nan"),
        ({"side": float("inf")}, "side must be a finite number of at least 1, got inf"),
        ({"ink": "green"}, "unknown colour 'green': choose red, blue"),
    ],
)
def test_what_is_not_allowed_is_one_line(values: dict[str, object], told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Drawing(**values)  # type: ignore[arg-type]
    assert str(caught.value) == told


def test_help_names_the_choices() -> None:
    told = {name: known.told() for name, known in options_of(Drawing).items()}
    assert told["ink"] == "Colour: red or blue."
    assert told["suffix"] == "Format: svg, png or pdf."
    assert told["side"] == "Side in pixels."


def test_words_of_the_command_line_become_values() -> None:
    known = options_of(Drawing)
    assert known["suffix"].read("suffix", "pdf") == ".pdf"
    assert known["holes"].read("holes", "1+2") == (1, 2)
    assert known["holes"].read("holes", None) is None
    assert known["side"].read("side", 5) == 5
    with pytest.raises(ConfigError, match="unknown suffix 'gif': choose svg, png, pdf"):
        known["suffix"].read("suffix", "gif")


def test_defaults_of_the_command_line_may_differ() -> None:
    found = {
        name: known.command_default(getattr(Drawing, name))
        for name, known in options_of(Drawing).items()
    }
    assert found == {"side": 8, "share": None, "ink": "red", "holes": None, "suffix": "png"}
