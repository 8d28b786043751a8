"""Llama, and what has its plan and name: SmolLM2, TinyLlama and many more (over the modules of transformers)."""

from duo_oracle.models.hf.llama_like import TINY, LlamaLike
from duo_oracle.models.hf.pretrained import pretrained_family

MODEL_TYPE = "llama"

build, build_module, random_checkpoint = pretrained_family(MODEL_TYPE, LlamaLike, TINY)
