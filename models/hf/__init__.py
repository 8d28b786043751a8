"""Pretrained language models over the modules of transformers."""
