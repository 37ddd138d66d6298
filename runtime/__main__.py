"""`python -m runtime` is the command `runtime`."""

import sys

from runtime.cli import main

sys.exit(main())
