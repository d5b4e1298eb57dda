"""The command line: ``python -m ldf_utils.clip selfcheck``."""

import sys

from ldf_utils.clip.fingerprints import main

sys.exit(main())
