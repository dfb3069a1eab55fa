"""The pages on which people look at what came in and mark it; what that says of the flag."""
