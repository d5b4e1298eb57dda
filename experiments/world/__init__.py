"""Render registered infrared/visible pairs of a synthetic world, with the truth beside them."""
