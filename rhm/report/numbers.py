"""How the pages write numbers."""

MISSING = "\N{EN DASH}"
MINUS = "\N{MINUS SIGN}"


def number(value: float | None, digits: int = 3) -> str:
    """A number with fixed decimals, or a dash in its place."""
    return MISSING if value is None else f"{value:.{digits}f}".replace("-", MINUS)


def signed(value: float | None, digits: int = 3) -> str:
    """A difference with fixed decimals and its sign, or a dash in its place."""
    return MISSING if value is None else f"{value:+.{digits}f}".replace("-", MINUS)


def count(value: float | None) -> str:
    """A whole number with its thousands apart, or a dash in its place."""
    return MISSING if value is None else f"{value:,.0f}"
