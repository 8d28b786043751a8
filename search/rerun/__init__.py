"""A finished run opened again: its model, its positions, and what is asked of them anew."""
