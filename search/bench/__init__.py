"""Speed, measured beside the obvious ways in one run."""
