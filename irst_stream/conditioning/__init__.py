"""What is done to whole frames before they are searched: non-uniformity correction, registration."""
