"""Live feeds over ZeroMQ; PROTOCOL.md says what travels."""
