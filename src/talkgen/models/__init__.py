"""Networks. They take tensors, return tensors, and know nothing of training."""
