"""The module of a mixture of experts trained here, plain and frozen for scoring, and what it can be exported as."""
