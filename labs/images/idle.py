"""A pod that does nothing but exist, so that other programs can be run inside it."""

import signal
import sys

STOP = {signal.SIGTERM, signal.SIGINT}


def main() -> int:
    """Wait for the signal to stop."""
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP)
    signal.sigwait(STOP)
    return 0


if __name__ == "__main__":
    sys.exit(main())
