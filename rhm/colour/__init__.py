"""Colour: histogram matching, the method that gives rhm its name, and its alternatives."""
