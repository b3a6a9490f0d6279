"""The sample world: synthetic towns, seen by synthetic sensors, written as real files."""
