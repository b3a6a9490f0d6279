"""The lab: the experiments of the papers, small and quick, with their figures."""
