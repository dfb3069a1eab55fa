"""The gRPC server: streams, queue and batches."""
