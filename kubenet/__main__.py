"""``python -m kubenet`` is the ``kubenet`` command."""

import sys

from kubenet.cli.main import main

sys.exit(main())
