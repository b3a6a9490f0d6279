"""One file per command, or per group of commands: a thin skin over a function of the package."""
