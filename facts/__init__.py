"""What is true on a host or in the cluster: read-only, one round trip each."""
