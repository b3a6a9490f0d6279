"""Tiling: a scene predicted tile by tile and strip by strip, by one process or many."""
