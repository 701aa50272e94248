"""The sensors: discovery, reconciliation, and what follows the end of a run."""
