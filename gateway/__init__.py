"""The street door: REST in front of the services' gRPC, derived from the protos."""
