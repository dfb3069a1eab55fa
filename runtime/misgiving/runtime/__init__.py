"""The vehicle's part: vocabulary, engines, the gRPC server and the spool. Never imports torch."""
