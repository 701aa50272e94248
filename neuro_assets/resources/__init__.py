"""The store as a resource of Dagster, and the IO managers."""
