"""Live feeds over ZeroMQ; PROTOCOL.md describes the messages."""
