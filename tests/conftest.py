"""Settings of the whole suite."""

import os

from leepjax._cache import cache_dir

# The suite is many small programs: keep all of them compiled, for the next run.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(cache_dir("xla")))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
