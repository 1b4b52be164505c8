"""The command ``python -m experiments.select_source``."""

from experiments.select_source import main

main()
