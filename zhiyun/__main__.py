"""`python -m zhiyun` is `zhiyun`."""

import sys

from zhiyun.cli import main

if __name__ == "__main__":
    sys.exit(main())
