"""The command line: ``python -m ldf_utils.fusion --infrared DIR --visible DIR --output DIR``."""

import sys

from ldf_utils.fusion.inference import main

sys.exit(main())
