"""`python -m conformance`."""

import sys

from conformance.cli import main
from conformance.isolation import isolate

if __name__ == "__main__":
    # Before there are threads. Only what runs scenarios has to be isolated.
    main(prog_name="python -m conformance", obj="run" in sys.argv[1:2] and isolate())
