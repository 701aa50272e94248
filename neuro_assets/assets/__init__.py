"""Dagster's assets: steps, tables, checks, and the runner of all steps; science is elsewhere."""
