"""The figures of the Duo-LLM paper, drawn from runs, each with its control and verdict."""
