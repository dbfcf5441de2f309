"""Running a pipeline: threads and bounded queues, status and metrics, load tests."""
