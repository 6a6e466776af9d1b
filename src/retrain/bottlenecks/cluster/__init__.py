"""Computes bottlenecks on a cluster: shards of photos, parts that workers write, and one reducer that merges them."""
