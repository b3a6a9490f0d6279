"""Tracing: from a mask of buildings to the outlines of single buildings."""
