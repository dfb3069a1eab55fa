"""The next step of active learning, from what a fleet has collected to a release for it."""
