"""Learning from unlabelled imagery of a target domain, in one file for each method."""
