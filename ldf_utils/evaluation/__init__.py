"""Methods measured, ranked and reported."""
