"""Everything outside the process: the store, the registry, session sources, IO managers."""
