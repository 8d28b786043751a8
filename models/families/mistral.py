"""Mistral: Llama with a sliding window, within which it is searched (over the modules of transformers)."""

from duo_oracle.models.hf.llama_like import TINY, LlamaLike
from duo_oracle.models.hf.pretrained import pretrained_family

MODEL_TYPE = "mistral"

build, build_module, random_checkpoint = pretrained_family(MODEL_TYPE, LlamaLike, TINY)
