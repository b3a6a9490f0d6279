"""Lists of scenes: their names, their dates, and STAC documents that list them."""
