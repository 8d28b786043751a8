"""Small FFNs for a pretrained model: made from its big ones, measured, and written beside it."""
