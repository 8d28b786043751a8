"""Stage 3, the training of a router upon a frozen model."""
