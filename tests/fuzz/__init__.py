"""Mutated inputs of every kind that the commands read, and what must hold of whatever becomes of them. `make fuzz`."""
