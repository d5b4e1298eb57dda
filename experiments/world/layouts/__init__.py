"""Layouts: each fills a stage with one kind of place."""
