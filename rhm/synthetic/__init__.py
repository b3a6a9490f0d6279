"""The sample world: synthetic towns imaged by synthetic sensors, written as real files."""
