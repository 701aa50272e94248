"""Finding the recordings in a session folder, one module a format."""
