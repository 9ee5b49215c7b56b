"""Audio: waveforms, spectral features, learned speech features, and where they meet video frames."""
