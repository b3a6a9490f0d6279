"""Models: description, network, and the file that holds both."""
