"""The command line: ``python -m propagation run``."""

from __future__ import annotations

import signal
import sys

from propagation._native import run_cli


def main() -> int:
    """Run the command line with the arguments of this process and return its exit status."""
    # The command line has its own way to end at Ctrl-C.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    return run_cli(["propagation", *sys.argv[1:]])


if __name__ == "__main__":
    sys.exit(main())
