"""Where things run: executors and run launchers."""
