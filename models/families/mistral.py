"""Mistral: Llama with a sliding window, within which it is searched (over the modules of transformers)."""

from models.pretrained import pretrained_family
from models.pretrained_llama import TINY, LlamaLike

MODEL_TYPE = "mistral"

build, build_module, random_checkpoint = pretrained_family(MODEL_TYPE, LlamaLike, TINY)
