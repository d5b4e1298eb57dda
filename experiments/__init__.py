"""How what ships was made, studies and benchmarks: ``python -m experiments.NAME``."""
