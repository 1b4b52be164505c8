"""The command ``python -m experiments.transfer_accuracy``."""

from experiments.transfer_accuracy import main

main()
