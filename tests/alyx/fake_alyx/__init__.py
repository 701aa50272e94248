"""An Alyx over HTTP for tests: the REST contract, its odd sides, and faults on order."""
