"""Which recordings there are: records in the store, the key of each, and what has to be done."""
