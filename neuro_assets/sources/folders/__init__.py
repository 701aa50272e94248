"""The source `folders`: sessions in ONE, BIDS and NeuroBlueprint trees, and bare run folders."""
