"""Classical rules, and inference for a pair or a folder."""
