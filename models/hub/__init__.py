"""The Hugging Face hub: models and datasets there, fetched once, then read from the hub's cache."""
