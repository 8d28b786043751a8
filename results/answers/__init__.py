"""One file for each question that a command answers about a run."""
