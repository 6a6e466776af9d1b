"""A model file says what is in photos."""
