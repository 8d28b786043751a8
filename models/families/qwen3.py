"""Qwen3: Llama with norms on every head's queries and keys (over the modules of transformers)."""

from duo_oracle.models.hf.llama_like import TINY, LlamaLike
from duo_oracle.models.hf.pretrained import pretrained_family

MODEL_TYPE = "qwen3"

build, build_module, random_checkpoint = pretrained_family(MODEL_TYPE, LlamaLike, TINY)
