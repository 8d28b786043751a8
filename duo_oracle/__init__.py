"""duo-oracle: the best routing pattern per token of a model whose layers offer a choice."""
