"""The command ``python -m experiments.multitask_groups``."""

from experiments.multitask_groups import main

main()
