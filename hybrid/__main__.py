"""`python -m hybrid`: the same as the `hybrid` command."""

import sys

from hybrid.cli import main

if __name__ == "__main__":
    sys.exit(main())
