"""The fixtures of the command line's tests."""

from tests.cli.conftest import fork as fork
from tests.cli.conftest import run as run
from tests.cli.conftest import work as work
