"""Configurations that come with rhm."""
