"""One file a corpus: folder layout and official splits to a manifest, nothing else."""
