"""The command ``python -m experiments.meta_transfer``."""

from experiments.meta_transfer import main

main()
