"""``python -m tsporec.cli``."""

from tsporec.cli import main

main()
