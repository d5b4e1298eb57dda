"""Files, images, pairs, and the rendered set with its truth."""
