"""The command line of the library in the documentation's internet."""

from wsockets.cli import main

from .world import enter

enter()
main()
