"""How many examples the properties have that differ from most in how long an example takes."""

from hypothesis import settings

EVERYDAY = 30
"""Examples of a property in everyday tests, unless it says otherwise."""


def examples(count: int) -> settings:
    """Return the settings of a property with so many examples in everyday tests.

    A profile that looks for longer multiplies them as it does those of other properties.
    """
    return settings(max_examples=count * settings().max_examples // EVERYDAY)
