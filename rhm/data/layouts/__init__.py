"""Dataset layouts: from a folder of images and labels to a catalog."""
