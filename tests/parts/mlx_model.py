"""A model folder that a real mlx_lm.server loads: a Llama of random weights, from no hub.

What it says means nothing, but is always readable: the weights that choose a token favour
lower-case letters, so an answer is plain ASCII. The same folder comes out every time.
"""

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
from safetensors.numpy import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

WIDTH = 64
HEADS = 4
BLOCKS = 2
FEED_FORWARD = 128
CONTEXT = 2048

CONTROLS = ["<unk>", "<s>", "</s>"]
BYTES = 256
VOCABULARY = BYTES + len(CONTROLS)

#: Each message as "role: content", and the cue for the answer.
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)

Matrix = npt.NDArray[np.float32]


def write(folder: Path) -> None:
    """Write the model's files into `folder`, which exists."""
    letters = _tokenizer(folder)
    (folder / "config.json").write_text(json.dumps(_config()))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": CONTEXT,
        **dict(zip(("unk_token", "bos_token", "eos_token"), CONTROLS, strict=True)),
        "chat_template": CHAT_TEMPLATE,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    save_file(_tensors(letters), folder / "model.safetensors", metadata={"format": "pt"})


def _config() -> dict[str, object]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": WIDTH,
        "intermediate_size": FEED_FORWARD,
        "num_hidden_layers": BLOCKS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": HEADS,
        "vocab_size": VOCABULARY,
        "max_position_embeddings": CONTEXT,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "tie_word_embeddings": False,
        "bos_token_id": BYTES + CONTROLS.index("<s>"),
        "eos_token_id": BYTES + CONTROLS.index("</s>"),
    }


def _tokenizer(folder: Path) -> list[int]:
    """Every byte is a token; nothing is merged. Returns the tokens of the letters a to z."""
    vocabulary = {sign: at for at, sign in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE(vocab=dict(vocabulary), merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(control, special=True) for control in CONTROLS])
    tokenizer.save(str(folder / "tokenizer.json"))
    return [vocabulary[letter] for letter in "abcdefghijklmnopqrstuvwxyz"]


def _tensors(letters: list[int]) -> dict[str, Matrix]:
    draw = np.random.default_rng(7)

    def matrix(rows: int, columns: int) -> Matrix:
        return draw.normal(0, 0.1, (rows, columns)).astype(np.float32)

    # NB: a row of zeros gives its token the logit 0, and a letter's is almost surely far above.
    head = np.zeros((VOCABULARY, WIDTH), dtype=np.float32)
    head[letters] = matrix(len(letters), WIDTH) * 10
    ones = np.ones(WIDTH, dtype=np.float32)
    tensors = {
        "model.embed_tokens.weight": matrix(VOCABULARY, WIDTH),
        "model.norm.weight": ones,
        "lm_head.weight": head,
    }
    for block in range(BLOCKS):
        weights = {
            "input_layernorm": ones,
            "post_attention_layernorm": ones,
            **{f"self_attn.{part}_proj": matrix(WIDTH, WIDTH) for part in "qkvo"},
            **{f"mlp.{part}_proj": matrix(FEED_FORWARD, WIDTH) for part in ("gate", "up")},
            "mlp.down_proj": matrix(WIDTH, FEED_FORWARD),
        }
        tensors |= {
            f"model.layers.{block}.{name}.weight": weight for name, weight in weights.items()
        }
    return tensors
