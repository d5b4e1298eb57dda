"""Files, images, pairs and the scenes."""
