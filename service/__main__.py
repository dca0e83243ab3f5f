"""`python -m service` is `cuadre`."""

import sys

from service.cli import main

sys.exit(main())
