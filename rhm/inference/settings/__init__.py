"""Settings: options in general, and those of tiles, footprints and worker processes."""
