"""Stage 1, the training of a Duo-LLM itself, and the loop that all trainings share."""
