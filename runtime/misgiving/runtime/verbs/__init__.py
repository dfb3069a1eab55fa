"""The command and the bodies of its verbs."""
