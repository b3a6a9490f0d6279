"""The errors that a user can cause, as one tree.

    RhmError                 the input is at fault: one line, exit code 2
    ├── RasterError          an image cannot be read, or is unsuitable for its purpose
    ├── VectorError          a vector file cannot be read, or has no CRS
    ├── CatalogError         a catalog is empty, malformed, or lacks the requested images
    ├── BankError            a histogram bank cannot be read, or does not fit the imagery
    ├── ConfigError          a configuration has an unknown key or an invalid value
    ├── ModelFileError       a model file cannot be read, or does not fit the imagery
    ├── AnalysisError        features cannot be analysed: a layer, class or finite value is missing
    ├── OutsideAreaError     a scene lies outside the area of interest
    └── OutputError          a result cannot be written

The message says what is wrong, where, and what to do next, in one line. Any other exception is a
defect of this package and is shown with its traceback.
"""

_LONGEST = 300
"""Most characters of a message of another package."""


class RhmError(Exception):
    """The user's input is at fault; the command line prints the message and exits with code 2."""


class RasterError(RhmError):
    """An image cannot be read, or is unsuitable for its purpose."""


class VectorError(RhmError):
    """A vector file cannot be read, or has no coordinate reference system."""


class CatalogError(RhmError):
    """A catalog is empty, malformed, or lacks the requested images."""


class BankError(RhmError):
    """A histogram bank cannot be read, or does not fit the imagery."""


class ConfigError(RhmError):
    """A configuration has an unknown key or an invalid value."""


class ModelFileError(RhmError):
    """A model file cannot be read, or does not fit the imagery."""


class AnalysisError(RhmError):
    """Features cannot be analysed: a layer, class or finite value is missing."""


class OutsideAreaError(RhmError):
    """A scene lies outside the area of interest."""


class OutputError(RhmError):
    """A result cannot be written."""


def printable(text: str, keep: str = "") -> str:
    """Replace unprintable characters: controls, lone surrogates, direction overrides.

    Args:
        text: text of unknown origin.
        keep: unprintable characters that stay.
    """
    return "".join(c if c.isprintable() or c in keep else "\ufffd" for c in text)


def one_line(error: BaseException, most: int = _LONGEST) -> str:
    """Return the message of an error of another package in one printable line.

    Such messages may span lines, be empty, or quote bytes of a file of unknown origin.

    Args:
        error: error; its class stands for a message that is empty.
        most: largest number of characters.
    """
    told = str(error)
    if isinstance(error, KeyError) and error.args:
        # Its text is the argument in quotes, and mostly a key without a sentence around it.
        key = str(error.args[0])
        told = key if " " in key else f"{key!r} is missing"
    text = printable(" ".join(told.split())) or type(error).__name__
    return text if len(text) <= most else f"{text[: most - 1]}\u2026"
