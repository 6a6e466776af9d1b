"""One module or folder for each model format, which writes it and runs it."""
