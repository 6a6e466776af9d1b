"""LiteRT: writes and runs `.tflite` models, converts graphs to them, edits their files."""
