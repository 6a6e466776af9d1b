"""Pure functions on frozen TensorFlow graphs."""
