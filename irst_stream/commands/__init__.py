"""One module per command: set_up() declares the options; args.run executes the command and returns the exit code."""
