"""The training of mixtures of experts from scratch, by every rule of routing alike."""
