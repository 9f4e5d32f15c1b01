"""`python -m cbench` is the `cbench` command."""

import sys

from cbench.cli import main

sys.exit(main())
