"""What exists: one file a stage, an asset in 10 to 25 lines; the science is elsewhere."""
