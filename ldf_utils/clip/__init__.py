"""Sentences and images in CLIP's space."""
