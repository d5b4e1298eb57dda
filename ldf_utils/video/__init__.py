"""Clips: reading, matching two in time, writing, and how much a fused one flickers."""
