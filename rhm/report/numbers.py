"""The format of numbers on the pages."""

MISSING = "\N{EN DASH}"
MINUS = "\N{MINUS SIGN}"


def number(value: float | None, digits: int = 3) -> str:
    """Return a number with fixed decimals, or a dash for None."""
    return MISSING if value is None else f"{value:.{digits}f}".replace("-", MINUS)


def signed(value: float | None, digits: int = 3) -> str:
    """Return a difference with its sign and fixed decimals, or a dash for None."""
    return MISSING if value is None else f"{value:+.{digits}f}".replace("-", MINUS)


def count(value: float | None) -> str:
    """Return a whole number with separated thousands, or a dash for None."""
    return MISSING if value is None else f"{value:,.0f}"
