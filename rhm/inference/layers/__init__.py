"""Vector layers that a prediction writes: files, GeoPackage, and marks of their origin."""
