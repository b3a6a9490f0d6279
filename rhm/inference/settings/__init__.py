"""Settings: what an option is, and the options of tiles and of footprints."""
