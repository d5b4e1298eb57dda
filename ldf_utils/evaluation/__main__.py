"""The command line: ``python -m ldf_utils.evaluation SET_DIR``."""

import sys

from ldf_utils.evaluation.evaluate import main

sys.exit(main())
