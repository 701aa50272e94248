"""Where sessions come from: the protocol that every source follows, and the sources."""
