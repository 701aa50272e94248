"""NWB files: what goes in, writing, units, traces, and the check of the result."""
