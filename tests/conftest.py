"""Settings of the whole suite."""

import hypothesis

# A loaded machine makes single examples slow; what is slow is seen in the suite's time, not by a failing example.
hypothesis.settings.register_profile("suite", deadline=None)
hypothesis.settings.load_profile("suite")
