"""One module for each command: set_up() says what it takes; its run does it and returns the exit code."""
