"""The command ``python -m experiments.convergence``."""

from experiments.convergence import main

main()
