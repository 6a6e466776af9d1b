"""Bottlenecks become a head, or a fine-tuned network."""
