"""``python -m tsdistill``: the same as the console script."""

from tsdistill.cli.main import main

main()
