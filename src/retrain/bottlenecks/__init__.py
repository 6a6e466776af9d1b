"""Each photo's bottleneck, computed once and kept."""
