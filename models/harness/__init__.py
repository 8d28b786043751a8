"""A model under a router, as other programs' harnesses take models."""
