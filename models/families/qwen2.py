"""Qwen2: Llama with biases in its attention (over the modules of transformers)."""

from models.pretrained import pretrained_family
from models.pretrained_llama import TINY, LlamaLike

MODEL_TYPE = "qwen2"

build, build_module, random_checkpoint = pretrained_family(MODEL_TYPE, LlamaLike, TINY)
