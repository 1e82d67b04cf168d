"""The `trackside` command: hands over to the Rust library in this very process.

So `mode = "in_process"` needs no second interpreter. Nothing but the library is imported first: `--help` must be quick.
"""

from __future__ import annotations

import signal
import sys


def main() -> int:
    """Run the command; answers its exit code."""
    from trackside import _native  # noqa: PLC0415 (the only import that costs anything)

    # Python would only note Ctrl-C and wait for its next line, which comes when the engine is done: let Rust have it.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    # What a model in this process prints is no answer of the command, whose own output Python does not see.
    sys.stdout = sys.stderr
    return _native.main(sys.argv)


if __name__ == "__main__":
    sys.exit(main())
