"""Qwen3: Llama with norms on every head's queries and keys (over the modules of transformers)."""

from models.pretrained import pretrained_family
from models.pretrained_llama import TINY, LlamaLike

MODEL_TYPE = "qwen3"

build, build_module, random_checkpoint = pretrained_family(MODEL_TYPE, LlamaLike, TINY)
