"""All timing: ``python -m benchmarks NAME``."""
