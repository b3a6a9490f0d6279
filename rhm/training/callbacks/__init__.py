"""Callbacks that record the cost, features and updates of a run during training."""
