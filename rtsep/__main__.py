"""`python -m rtsep`, the same as the command `rtsep`."""

import sys

from rtsep.cli.main import main

sys.exit(main())
