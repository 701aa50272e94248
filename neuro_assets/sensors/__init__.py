"""When things run: pure planning functions, and the thin shells that Dagster calls."""
