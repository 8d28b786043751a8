"""How the shipped models and texts were made; nothing else depends on it."""
