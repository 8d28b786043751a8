"""The ask, score and tell loop: many positions in step, their moves and starts."""
