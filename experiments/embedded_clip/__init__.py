"""The embedded CLIP: its dataset, training, evaluation and card."""
