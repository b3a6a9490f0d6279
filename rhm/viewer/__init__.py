"""A local page that shows predictions: scene, probability, and footprints to click."""
