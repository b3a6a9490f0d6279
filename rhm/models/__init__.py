"""Models: the description, the network, and the file that contains both."""
