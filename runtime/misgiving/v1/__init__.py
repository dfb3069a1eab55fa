"""Code generated from protos/; renewed by `make proto`."""
