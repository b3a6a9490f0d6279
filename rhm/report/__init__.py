"""The cross-domain report: scores of several runs on several domains, as one page."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rhm.report.pages import write_report

__all__ = ["write_report"]


def __getattr__(name: str) -> object:
    if name == "write_report":
        # The template engine is imported only when a page is written.
        from rhm.report.pages import write_report

        return write_report
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
