"""``python -m spalipy_astro``: see `spalipy_astro.cli`."""

import sys

from spalipy_astro.cli import main

if __name__ == "__main__":
    sys.exit(main())
