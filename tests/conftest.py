"""Settings of the whole suite."""

import os

# The suite is many small programs. Where the caller names a folder for JAX's compilation cache
# (JAX_COMPILATION_CACHE_DIR), all of them are kept, not only those that took a second to compile.
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
