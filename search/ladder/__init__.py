"""The ladder of a run: what choices of growing knowledge gain on the real labels, from a fixed pattern to hindsight."""
