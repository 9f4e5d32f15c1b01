#!/usr/bin/env python3
"""Train, validate and test what a config describes: python tools/run_benchmark.py configs/quickstart.py."""

import sys

from cbench.bench.main import main

if __name__ == "__main__":
    sys.exit(main())
