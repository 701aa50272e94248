"""Quality of a recording: RMS, spectra, line noise, saturation, destriping."""
