"""The command ``python -m experiments.hyperparameters``."""

from experiments.hyperparameters import main

main()
