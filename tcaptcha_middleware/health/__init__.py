"""Health of the verifier's service, established by probes and never by a visitor."""
