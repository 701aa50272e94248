"""The files of a session of Alyx: read in place, or fetched into a bounded cache and checked."""
