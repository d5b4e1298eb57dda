"""One network for any sentence: its training, and what its sentences do."""
