"""The report as a page to show to others: one file, which asks no network for anything."""
