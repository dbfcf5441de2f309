"""What runs on several machines: the connection to a Ray cluster."""
