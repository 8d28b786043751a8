"""The ladder as numbers, table and picture: what choices of growing knowledge gain on the real labels."""
