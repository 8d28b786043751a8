"""What a notebook holds of a run: the run itself, its text in colours, and answers that show themselves."""
