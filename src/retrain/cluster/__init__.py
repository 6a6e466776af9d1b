"""Runs tasks on the machines of a Ray cluster, however many of them are killed meanwhile."""
