"""Colour: histogram matching, the method that gives rhm its name, and what it is compared with."""
