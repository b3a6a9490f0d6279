"""Spectra: the low-frequency amplitudes of images, kept in banks and given to other images."""
