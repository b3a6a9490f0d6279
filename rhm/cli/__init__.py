"""The command line: the entry point, options shared by commands, and how results are printed."""

import os
import signal

INTERRUPTED = 130


def begin() -> None:
    """Run ``rhm``: import what all commands need, which takes a moment, and then the command."""
    from rhm.cli.process import open_closed_streams

    # First, because libraries may keep files open.
    open_closed_streams()
    before = signal.getsignal(signal.SIGINT)
    if before is signal.default_int_handler:
        # There is nothing to clean up yet, and where an import was interrupted is no matter.
        signal.signal(signal.SIGINT, lambda *_: os._exit(INTERRUPTED))
    from rhm.cli.main import main

    signal.signal(signal.SIGINT, before)
    main()
