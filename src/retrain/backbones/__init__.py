"""A name becomes a frozen network from pixels to bottlenecks, and what runs it fastest here."""
