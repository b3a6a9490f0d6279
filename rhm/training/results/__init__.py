"""What a run leaves behind: the finished model, its threshold, and its card."""
