"""Labels very many photos, on one machine or a cluster, into parts of CSV or JSON lines."""
