"""What is wrong with the photos of a folder, and what to photograph next."""
