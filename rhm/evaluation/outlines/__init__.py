"""Scores of outlines: the measures that people who work with polygons know."""
