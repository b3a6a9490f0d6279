"""A local web page that shows predictions: scene, probabilities, and clickable footprints."""
