"""What every room uses and what knows nothing of oracles: names to choose from, the allocator, files written whole."""
