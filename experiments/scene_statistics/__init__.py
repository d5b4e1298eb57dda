"""Are rendered pictures like real ones? Distributions of both, and a classifier's answer."""
