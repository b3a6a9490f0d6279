"""Vector files: opened by formats that are known, and read within limits."""
