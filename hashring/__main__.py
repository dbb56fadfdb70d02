"""``python -m hashring`` is the ``hashring`` command."""

import sys

from hashring.cli import main

if __name__ == "__main__":
    sys.exit(main())
