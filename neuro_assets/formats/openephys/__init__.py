"""Open Ephys binary: experiments, recordings, streams and opening."""
