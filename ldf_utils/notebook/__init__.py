"""What the notebooks show, ask and record."""
