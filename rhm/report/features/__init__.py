"""The feature page: what the layers of a network do to the classes."""
