"""The embedded detector: its training, its evaluation, and the studies of notebook 06."""
