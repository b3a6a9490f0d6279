"""The lab: the papers' own experiments, small and quick, each with its figure."""
