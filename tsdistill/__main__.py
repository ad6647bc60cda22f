"""The console script and ``python -m tsdistill``."""

from __future__ import annotations

import signal
from typing import NoReturn

from tsdistill.interrupts import leave


def main() -> NoReturn:
    """Run the command line (`tsdistill.cli.main.main`); Ctrl-C is handled before that is imported."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, leave)
    from tsdistill.cli.main import main as run

    run()


if __name__ == "__main__":
    main()
