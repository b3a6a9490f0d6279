"""The command line: the entry point, options shared by commands, and how results are printed."""
