"""Rasters: reading by window with validity masks, and writing cloud-optimised GeoTIFFs."""
