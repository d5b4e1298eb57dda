"""The command line: ``python -m experiments.embedded_clip train | evaluate | card``."""

import sys

from experiments.embedded_clip.training import main

sys.exit(main())
