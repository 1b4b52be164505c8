"""Experiments: a readable file or folder each, ``python -m experiments.NAME``."""
