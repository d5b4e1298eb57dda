"""Which registration: candidates measured on pairs whose displacement is known."""
