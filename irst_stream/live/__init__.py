"""A pipeline that runs: threads and bounded queues, its figures, and what it can bear."""
