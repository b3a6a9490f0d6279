"""Steps of a comparison: maps, the shift between them, matches, exports."""
