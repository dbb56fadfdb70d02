"""Other libraries' interfaces on our engine."""
