"""What a notebook holds of a model."""
