"""Tracing: from a mask of buildings to the outlines of individual buildings."""
