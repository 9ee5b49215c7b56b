"""What happens around a training step: averaging, checkpoints, samples, guards, progress."""
