"""Sessions that are registered in an Alyx database."""
