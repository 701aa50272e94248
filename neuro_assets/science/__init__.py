"""How things are computed: plain functions on recordings, arrays and frames; never Dagster."""
