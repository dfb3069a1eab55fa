"""The frames that the fleet side has: found, shown, handed on, and erased for good."""
