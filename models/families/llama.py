"""Llama, and what has its plan and name: SmolLM2, TinyLlama and many more (over the modules of transformers)."""

from models.pretrained import pretrained_family
from models.pretrained_llama import TINY, LlamaLike

MODEL_TYPE = "llama"

build, build_module, random_checkpoint = pretrained_family(MODEL_TYPE, LlamaLike, TINY)
