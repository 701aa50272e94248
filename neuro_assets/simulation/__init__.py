"""A whole recording session with known truth, written as rigs write it."""
