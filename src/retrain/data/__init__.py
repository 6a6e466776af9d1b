"""A folder becomes classes, examples and pixels."""
