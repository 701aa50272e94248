"""Local field potentials: filters, extraction, quality numbers, stored form."""
