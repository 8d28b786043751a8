"""The module of a Duo-LLM trained here, plain and frozen for scoring."""
