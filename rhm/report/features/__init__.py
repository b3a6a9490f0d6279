"""The feature page: how the stages of a network separate the classes."""
