"""Settings of the whole suite."""

import hypothesis

# A loaded machine makes single examples slow; what is slow is seen in the suite's time, not by a failing example.
# No database: it would belong to the user who ran the tests first, and a failing example is printed anyway.
hypothesis.settings.register_profile("suite", deadline=None, database=None)
hypothesis.settings.load_profile("suite")
