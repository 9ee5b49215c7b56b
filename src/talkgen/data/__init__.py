"""From raw corpora to batches: manifests, the prepare pipeline, the store, windows and data modules."""
