"""The engine: trees of patterns walked through a frozen model, scored and certified. The only room of oracle/ that computes."""
