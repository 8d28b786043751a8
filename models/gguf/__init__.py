"""GGUF files, read and converted to the directories of transformers."""
