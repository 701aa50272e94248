"""How runs are executed and tried again: launcher, executors, retries, identities of processes."""
