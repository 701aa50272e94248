"""Registering results in Alyx: target state, remote state, their difference, and applying it."""
