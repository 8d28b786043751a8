"""The plain Duo-LLM: its ends are transformers' Llama, and routing means what design says, layer by layer."""

import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from duo_oracle.models.checkpoint import read_checkpoint, write_checkpoint
from duo_oracle.models.duo_llm.module import DuoLayer, DuoLlama, DuoLlamaConfig, rotary_tables
from duo_oracle.models.families.duo_llama import build_module
from duo_oracle.oracle.contexts import SkipReading
from duo_oracle.oracle.patterns import Branch

SHAPES = [
    {"num_attention_heads": 4, "num_key_value_heads": 4, "head_dim": 8, "tie_word_embeddings": True},
    {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "tie_word_embeddings": False},
    {"num_attention_heads": 8, "num_key_value_heads": 1, "head_dim": 10, "tie_word_embeddings": False, "rope_theta": 500.0},
]


def random_module(seed: int, dtype: torch.dtype = torch.float32, **shape) -> DuoLlama:
    defaults = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "rms_norm_eps": 1e-5}
    sizes = {"vocab_size": 50, "hidden_size": 32, "intermediate_size": 48, "small_intermediate_size": 12, "num_hidden_layers": 3}
    config = DuoLlamaConfig(**sizes, max_position_embeddings=64, **{**defaults, **shape})
    module = DuoLlama(config)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(
                torch.randn(parameter.shape, generator=generator) * parameter.shape[-1] ** -0.5 * 2 + (parameter.dim() == 1)
            )
    return module.to(dtype).eval().requires_grad_(False)


def tokens(module: DuoLlama, n_batch: int = 2, n_tokens: int = 20, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, module.config.vocab_size, (n_batch, n_tokens), generator=generator)


def uniform_mask(branch: Branch, token_id_BT: torch.Tensor, n_letters: int) -> torch.Tensor:
    return torch.full((*token_id_BT.shape, n_letters), int(branch), dtype=torch.uint8)


def token_losses(logits_BTV: torch.Tensor, token_id_BT: torch.Tensor) -> torch.Tensor:
    return F.cross_entropy(logits_BTV[:, :-1].flatten(0, 1).double(), token_id_BT[:, 1:].flatten(), reduction="none")


def as_small(directory: Path, target: Path) -> None:
    """A copy of a model directory whose big FFNs are its small ones."""
    checkpoint = read_checkpoint(str(directory))
    tensors = {name: tensor for name, tensor in checkpoint.tensors.items() if ".mlp." not in name}
    tensors = {name.replace(".small_mlp.", ".mlp."): tensor for name, tensor in tensors.items()}
    config = {**checkpoint.config, "intermediate_size": checkpoint.config["small_intermediate_size"]}
    write_checkpoint(target, config, tensors, None, next(iter(tensors.values())).dtype)


def assert_ends_equal_llama(directory: Path, scratch: Path, token_id_BT: torch.Tensor) -> None:
    transformers = pytest.importorskip("transformers")
    checkpoint = read_checkpoint(str(directory))
    module = build_module(checkpoint.config, checkpoint.tensors)
    as_small(directory, scratch)
    for branch, path in ((Branch.BIG, directory), (Branch.SMALL, scratch)):
        llama = transformers.LlamaForCausalLM.from_pretrained(path).eval()
        assert llama.dtype == torch.float32
        with torch.no_grad():
            theirs = token_losses(llama(token_id_BT).logits, token_id_BT)
        mask_BTL = uniform_mask(branch, token_id_BT, module.config.num_hidden_layers)
        ours = token_losses(module(token_id_BT, mask_BTL), token_id_BT)
        assert (ours - theirs).abs().max() < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("shape", SHAPES)
def test_all_big_and_all_small_are_transformers_llama(shape, tmp_path):
    module = random_module(1, **shape)
    write_checkpoint(tmp_path / "model", module.config.to_dict(), module.state_dict(), None, torch.float32)
    assert_ends_equal_llama(tmp_path / "model", tmp_path / "small", tokens(module))


@pytest.mark.slow
def test_all_big_and_all_small_of_the_shipped_model_are_transformers_llama(tmp_path):
    directory = Path(__file__).parents[3] / "models" / "duo_tiny"
    rows = [json.loads(line) for line in (directory.parent / "holdouts" / "code.jsonl").read_text().splitlines()[:2]]
    from duo_oracle.models.text.tokenizer import encode, load_tokenizer

    tokenizer = load_tokenizer((directory / "tokenizer.json").read_text())
    token_id_BT = torch.tensor([encode(tokenizer, row["text"])[:256] for row in rows])
    assert_ends_equal_llama(directory, tmp_path / "small", token_id_BT)


def slow_forward(module: DuoLlama, token_ids: list[int], mask_TL: torch.Tensor, skip: SkipReading) -> torch.Tensor:
    """Token by token, layer by layer, head by head, in plain loops over one sequence: logits_TV."""
    config = module.config
    cos_Td, sin_Td = rotary_tables(len(token_ids), config.head_dim, config.rope_theta)
    cos_Td, sin_Td = cos_Td.double(), sin_Td.double()

    def norm(x, weight):
        return x / torch.sqrt((x * x).mean() + config.rms_norm_eps) * weight

    def turned(x, position):
        half = config.head_dim // 2
        return x * cos_Td[position] + torch.cat((-x[half:], x[:half])) * sin_Td[position]

    cache: list[list[tuple[torch.Tensor, torch.Tensor]]] = [[] for _ in range(config.num_hidden_layers)]
    logits = []
    for position, token_id in enumerate(token_ids):
        x = module.model.embed_tokens.weight[token_id]
        for index, layer in enumerate(module.model.layers):
            assert isinstance(layer, DuoLayer)
            normed = norm(x, layer.input_layernorm.weight)
            attention = layer.self_attn
            k = (attention.k_proj.weight @ normed).view(config.num_key_value_heads, -1)
            v = (attention.v_proj.weight @ normed).view(config.num_key_value_heads, -1)
            cache[index].append((torch.stack([turned(head, position) for head in k]), v))
            branch = Branch(int(mask_TL[position, index]))
            if branch is Branch.SKIP and skip is SkipReading.LAYER:
                continue
            heads = []
            for head, q in enumerate((attention.q_proj.weight @ normed).view(config.num_attention_heads, -1)):
                shared = head // (config.num_attention_heads // config.num_key_value_heads)
                scores = torch.stack([turned(q, position) @ keys[shared] for keys, _ in cache[index]]) / config.head_dim**0.5
                heads.append(sum(p * values[shared] for p, (_, values) in zip(scores.softmax(0), cache[index], strict=True)))
            x = x + attention.o_proj.weight @ torch.cat(heads)
            if branch is not Branch.SKIP:
                ffn = layer.mlp if branch is Branch.BIG else layer.small_mlp
                normed = norm(x, layer.post_attention_layernorm.weight)
                gate = ffn.gate_proj.weight @ normed
                x = x + ffn.down_proj.weight @ (gate * gate.sigmoid() * (ffn.up_proj.weight @ normed))
        logits.append(module.unembedding_VD @ norm(x, module.model.norm.weight))
    return torch.stack(logits)


@pytest.mark.parametrize("skip", list(SkipReading))
@pytest.mark.parametrize("shape", SHAPES)
def test_mixed_routing_equals_plain_loops_under_both_skip_readings(shape, skip):
    module = random_module(2, torch.float64, **shape)
    token_id_BT = tokens(module, 2, 9)
    mask_BTL = torch.randint(0, 3, (2, 9, 3), generator=torch.Generator().manual_seed(3))
    logits_BTV = module(token_id_BT, mask_BTL, skip)
    for b in range(2):
        wanted_TV = slow_forward(module, token_id_BT[b].tolist(), mask_BTL[b], skip)
        # The loops turn by float32 tables, as the module does.
        assert torch.allclose(logits_BTV[b], wanted_TV, atol=1e-9)


def test_skip_readings_differ_only_where_a_token_skips():
    module = random_module(4)
    token_id_BT = tokens(module)
    mask_BTL = torch.randint(1, 3, (2, 20, 3), generator=torch.Generator().manual_seed(5))
    assert torch.equal(module(token_id_BT, mask_BTL, SkipReading.FFN), module(token_id_BT, mask_BTL, SkipReading.LAYER))
    mask_BTL[:, 7, 1] = Branch.SKIP
    ffn, layer = module(token_id_BT, mask_BTL, SkipReading.FFN), module(token_id_BT, mask_BTL, SkipReading.LAYER)
    assert torch.allclose(ffn[:, :7], layer[:, :7], atol=1e-5)
    assert (ffn[:, 7] - layer[:, 7]).abs().max() > 1e-3


def test_a_callable_that_reads_the_mask_routes_as_the_mask():
    module = random_module(6)
    token_id_BT = tokens(module)
    mask_BTL = torch.randint(0, 3, (2, 20, 3), generator=torch.Generator().manual_seed(7), dtype=torch.uint8)
    seen = []

    def routing(layer, x_BTD):
        seen.append((layer, tuple(x_BTD.shape)))
        return mask_BTL[:, :, layer]

    assert torch.equal(module(token_id_BT, routing), module(token_id_BT, mask_BTL))
    assert seen == [(layer, (2, 20, 32)) for layer in range(3)]


@pytest.mark.parametrize("skip", list(SkipReading))
def test_no_logit_depends_on_a_later_token_or_its_routing(skip):
    module = random_module(8)
    token_id_BT = tokens(module)
    mask_BTL = torch.randint(0, 3, (2, 20, 3), generator=torch.Generator().manual_seed(9))
    before = module(token_id_BT, mask_BTL, skip)
    changed_tokens, changed_mask = token_id_BT.clone(), mask_BTL.clone()
    changed_tokens[:, 12:] = (changed_tokens[:, 12:] + 1) % 50
    changed_mask[:, 12:] = (changed_mask[:, 12:] + 1) % 3
    after = module(changed_tokens, changed_mask, skip)
    assert torch.allclose(before[:, :12], after[:, :12], atol=1e-5)
    assert (before[:, 12:] - after[:, 12:]).abs().max() > 1e-2


def test_forward_leaves_no_state():
    module = random_module(10)
    token_id_BT = tokens(module)
    small, big = (uniform_mask(branch, token_id_BT, 3) for branch in (Branch.SMALL, Branch.BIG))
    first = module(token_id_BT, small)
    module(token_id_BT, big)
    assert torch.equal(first, module(token_id_BT, small))


def test_gradients_reach_only_the_ffns_that_ran():
    module = random_module(11).requires_grad_(True)
    token_id_BT = tokens(module)
    module(token_id_BT, uniform_mask(Branch.SMALL, token_id_BT, 3)).sum().backward()
    assert module.model.layers[0].small_mlp.up_proj.weight.grad is not None
    assert module.model.layers[0].mlp.up_proj.weight.grad is None


def test_state_dict_names_are_a_llama_checkpoints():
    names = set(random_module(0, tie_word_embeddings=False).state_dict())
    block = {f"self_attn.{name}_proj.weight" for name in "qkvo"} | {"input_layernorm.weight", "post_attention_layernorm.weight"}
    block |= {f"{ffn}.{name}_proj.weight" for ffn in ("mlp", "small_mlp") for name in ("gate", "up", "down")}
    wanted = {f"model.layers.{i}.{name}" for i in range(3) for name in block}
    assert names == wanted | {"model.embed_tokens.weight", "model.norm.weight", "lm_head.weight"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"small_intermediate_size": None}, "small_intermediate_size must be a whole number above 0; got None"),
        ({"hidden_size": 0}, "hidden_size must be a whole number above 0; got 0"),
        ({"num_hidden_layers": "3"}, "num_hidden_layers must be a whole number above 0; got '3'"),
        ({"num_key_value_heads": 3}, "multiple of num_key_value_heads; got 4 and 3"),
        ({"head_dim": 7}, "head_dim must be even"),
        ({"hidden_act": "gelu"}, "hidden_act must be 'silu' for duo_llama; got 'gelu'"),
        ({"attention_bias": True}, "attention_bias must be False"),
        ({"rope_scaling": {"rope_type": "yarn", "factor": 2.0}}, "rope_type must be 'default' for duo_llama; got 'yarn'"),
        ({"rms_norm_eps": -1.0}, "rms_norm_eps must be a number above 0; got -1.0"),
    ],
)
def test_an_unsupported_config_is_refused_by_name(change, message):
    config = random_module(0).config.to_dict()
    with pytest.raises(ValueError, match=message):
        DuoLlamaConfig.from_dict({**config, **change})


def test_config_of_newer_transformers_with_rope_parameters_is_read():
    config = random_module(0).config.to_dict()
    del config["rope_theta"]
    config["rope_parameters"] = {"rope_type": "default", "rope_theta": 1234.0}
    assert DuoLlamaConfig.from_dict(config).rope_theta == 1234.0


def test_a_wrong_or_missing_tensor_is_named_with_its_shapes():
    module = random_module(0)
    tensors = module.state_dict()
    name = "model.layers.1.small_mlp.up_proj.weight"
    with pytest.raises(ValueError, match=rf"{name} must have shape \[12, 32\] by config.json; found \[3, 4\]"):
        build_module(module.config.to_dict(), {**tensors, name: torch.zeros(3, 4)})
    del tensors[name]
    with pytest.raises(ValueError, match=rf"no tensor {name}; duo_llama needs it with shape \[12, 32\]"):
        build_module(module.config.to_dict(), tensors)


def test_a_tensor_that_the_model_would_not_use_is_refused():
    module = random_module(0)
    config, tensors = {**module.config.to_dict(), "tie_word_embeddings": True}, module.state_dict()
    tensors.pop("lm_head.weight", None)
    embedding = tensors["model.embed_tokens.weight"]
    for harmless in ({"lm_head.weight": embedding.clone()}, {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4)}):
        build_module(config, {**tensors, **harmless})
    with pytest.raises(ValueError, match=r"ties the head to the embedding, and lm_head\.weight of the checkpoint is another"):
        build_module(config, {**tensors, "lm_head.weight": embedding + 1})
    with pytest.raises(ValueError, match=r"holds tensor model\.layers\.9\.mlp\.up_proj\.weight, which a duo_llama model"):
        build_module(config, {**tensors, "model.layers.9.mlp.up_proj.weight": embedding})
