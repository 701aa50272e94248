"""Parameter models of every step, with units, and the named sets that the field uses."""
