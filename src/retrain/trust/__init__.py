"""Models of strangers are tried in a process that may be killed, once for each content."""
