"""A run's directory: its manifest, its parts, who writes and who reads them."""
