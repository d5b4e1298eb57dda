"""Fusion networks and their checkpoints."""
