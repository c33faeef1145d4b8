"""Lies first on the PYTHONPATH of the agents under test: Python runs it in each of their processes, first of all."""

import os

if "CHAOS_PLAN" in os.environ:
    from tests.chaos import injection

    injection.install(os.environ["CHAOS_PLAN"])
