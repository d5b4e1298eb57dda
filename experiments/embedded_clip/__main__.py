"""The command line: ``python -m experiments.embedded_clip train | evaluate | card``."""

from experiments.embedded_clip.training import main
from ldf_utils.data.cli import run_command

run_command(main)
