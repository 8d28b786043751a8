"""Qwen2: Llama with biases in its attention (over the modules of transformers)."""

from duo_oracle.models.hf.llama_like import TINY, LlamaLike
from duo_oracle.models.hf.pretrained import pretrained_family

MODEL_TYPE = "qwen2"

build, build_module, random_checkpoint = pretrained_family(MODEL_TYPE, LlamaLike, TINY)
