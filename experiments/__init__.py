"""Experiments: one readable file each, ``python -m experiments.NAME``."""
