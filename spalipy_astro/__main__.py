"""``python -m spalipy_astro``: see `spalipy_astro.commands`."""

import sys

from spalipy_astro.commands import main

if __name__ == "__main__":
    sys.exit(main())
