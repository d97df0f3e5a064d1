"""Property tests measure nothing: a busy machine must not fail them."""

import os

from hypothesis import settings

settings.register_profile(
    "patient", deadline=None, derandomize=bool(os.environ.get("CI"))
)
settings.load_profile("patient")
