"""`python -m tcaptcha_middleware`: the same as the command `tcaptcha`."""

import sys

from tcaptcha_middleware.cli import main

sys.exit(main())
