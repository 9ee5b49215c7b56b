"""Loss terms. Each is a module or function on tensors; no optimiser inside."""
