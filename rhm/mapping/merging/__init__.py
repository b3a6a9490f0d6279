"""Steps of merging: parts of scenes, overlaps between them, selection, joins."""
