"""A GGUF file that a real Ollama loads: a Llama of random weights, under a megabyte.

What it says means nothing, but is always readable: the weights that choose a token favour whole
words, so an answer never breaks a character in two. The same file comes out every time.

An endless one counts its words out in turn, for ever: what it says next depends on the last word
alone. It can't choose the token that ends an answer, and it never says a word twice running, since
Ollama ends an answer that does so thirty times.
"""

from pathlib import Path

import gguf
import numpy as np
import numpy.typing as npt

WIDTH = 64
HEADS = 4
BLOCKS = 2
FEED_FORWARD = 128
CONTEXT = 2048
LONG_CONTEXT = 32_768

WORDS = [
    "red",
    "green",
    "blue",
    "one",
    "two",
    "three",
    "yes",
    "no",
    "north",
    "south",
    "light",
    "dark",
]
CONTROLS = ["<unk>", "<s>", "</s>"]
UNKNOWN, START, END = range(3)
VOCABULARY = len(CONTROLS) + 256 + len(WORDS)

Matrix = npt.NDArray[np.float32]


def write(path: Path, *, endless: bool = False) -> None:
    """Write the model to `path`."""
    writer = gguf.GGUFWriter(path, "llama")
    _shape(writer, context=LONG_CONTEXT if endless else CONTEXT)
    _tokens(writer)
    for name, tensor in (_endless(_tensors()) if endless else _tensors()).items():
        writer.add_tensor(name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _shape(writer: gguf.GGUFWriter, *, context: int) -> None:
    writer.add_name("tiny")
    writer.add_context_length(context)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(BLOCKS)
    writer.add_feed_forward_length(FEED_FORWARD)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)


def _tokens(writer: gguf.GGUFWriter) -> None:
    """A SentencePiece vocabulary: three controls, each byte, a few words with a leading space."""
    tokens = CONTROLS + [f"<0x{byte:02X}>" for byte in range(256)] + [f"▁{word}" for word in WORDS]
    kind = gguf.TokenType
    kinds = [kind.UNKNOWN, kind.CONTROL, kind.CONTROL] + [kind.BYTE] * 256
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_scores([0.0] * len(tokens))
    writer.add_token_types(kinds + [kind.NORMAL] * len(WORDS))
    writer.add_unk_token_id(UNKNOWN)
    writer.add_bos_token_id(START)
    writer.add_eos_token_id(END)


def _tensors() -> dict[str, Matrix]:
    draw = np.random.default_rng(7)

    def matrix(rows: int, columns: int) -> Matrix:
        return draw.normal(0, 0.1, (rows, columns)).astype(np.float32)

    # NB: a row of zeros gives its token the logit 0, and a word's is almost surely far above.
    output = matrix(VOCABULARY, WIDTH) * 10
    output[: -len(WORDS)] = 0
    ones = np.ones(WIDTH, dtype=np.float32)
    tensors = {
        "token_embd.weight": matrix(VOCABULARY, WIDTH),
        "output_norm.weight": ones,
        "output.weight": output,
    }
    for block in range(BLOCKS):
        weights = {
            "attn_norm": ones,
            "ffn_norm": ones,
            **{f"attn_{part}": matrix(WIDTH, WIDTH) for part in ("q", "k", "v", "output")},
            **{f"ffn_{part}": matrix(FEED_FORWARD, WIDTH) for part in ("gate", "up")},
            "ffn_down": matrix(WIDTH, FEED_FORWARD),
        }
        tensors |= {f"blk.{block}.{name}.weight": weight for name, weight in weights.items()}
    return tensors


def _endless(tensors: dict[str, Matrix]) -> dict[str, Matrix]:
    """The same model with blocks that add nothing, and a last layer that reads off which word was
    the last one and chooses the next in the list.
    """
    for name, tensor in tensors.items():
        if "norm" not in name:
            tensor[:] = 0
    first = len(WORDS)
    embedding, output = tensors["token_embd.weight"], tensors["output.weight"]
    # NB: a text that ends in anything but a word goes on with the first one.
    embedding[: -len(WORDS), first] = 1
    output[-len(WORDS), first] = 100
    for index in range(len(WORDS)):
        embedding[index - len(WORDS), index] = 1
        output[(index + 1) % len(WORDS) - len(WORDS), index] = 100
    return tensors
