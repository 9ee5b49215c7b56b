"""One file a metric; the variant is part of the metric's name."""
