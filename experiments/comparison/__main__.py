"""The command ``python -m experiments.comparison``."""

from experiments.comparison import main

main()
