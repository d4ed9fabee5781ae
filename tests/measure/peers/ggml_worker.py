"""T3's transformer in ggml: a GPT-2 of its sizes with random weights in ``Q8_0``.

Runs in an environment with llama-cpp-python and gguf, so it imports nothing of ours. Each line of
standard input is a number of tokens, and is answered with their processor seconds.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

EPSILON = 1e-5


def write(path: Path, *, width: int, layers: int, heads: int, vocabulary: int, room: int) -> None:
    """Write the model's file."""
    import gguf  # pyright: ignore[reportMissingImports]

    rng = np.random.default_rng(0)
    writer = gguf.GGUFWriter(str(path), "gpt2")
    writer.add_context_length(room)
    writer.add_embedding_length(width)
    writer.add_feed_forward_length(4 * width)
    writer.add_block_count(layers)
    writer.add_head_count(heads)
    writer.add_layer_norm_eps(EPSILON)
    # A vocabulary is asked for; the ids are given as numbers.
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list([f"t{i}" for i in range(vocabulary)])
    writer.add_token_types([1] * vocabulary)
    writer.add_token_merges(["t 0"])
    kind = gguf.GGMLQuantizationType.Q8_0

    def matrix(name: str, outputs: int, inputs: int) -> None:
        weights = (0.02 * rng.standard_normal((outputs, inputs))).astype(np.float32)
        writer.add_tensor(name, gguf.quants.quantize(weights, kind), raw_dtype=kind)

    def vector(name: str, size: int, value: float) -> None:
        writer.add_tensor(name, np.full(size, value, np.float32))

    matrix("token_embd.weight", vocabulary, width)
    positions = (0.02 * rng.standard_normal((room, width))).astype(np.float32)
    writer.add_tensor("position_embd.weight", positions)
    for layer in range(layers):
        for norm in ("attn_norm", "ffn_norm"):
            vector(f"blk.{layer}.{norm}.weight", width, 1)
            vector(f"blk.{layer}.{norm}.bias", width, 0)
        for name, outputs, inputs in (
            ("attn_qkv", 3 * width, width),
            ("attn_output", width, width),
            ("ffn_up", 4 * width, width),
            ("ffn_down", width, 4 * width),
        ):
            matrix(f"blk.{layer}.{name}.weight", outputs, inputs)
            vector(f"blk.{layer}.{name}.bias", outputs, 0)
    vector("output_norm.weight", width, 1)
    vector("output_norm.bias", width, 0)
    matrix("output.weight", vocabulary, width)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main() -> None:
    """Run the worker until its input ends."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", required=True, help="width, layers, heads, vocabulary as JSON")
    parser.add_argument("--file", type=Path, required=True)
    parser.add_argument("--prompt", type=int, required=True)
    parser.add_argument("--room", type=int, required=True)
    args = parser.parse_args()
    import llama_cpp  # pyright: ignore[reportMissingImports]

    write(args.file, **json.loads(args.sizes), room=args.room)
    model: Any = llama_cpp.Llama(
        str(args.file), n_ctx=args.room, n_threads=1, n_threads_batch=1, verbose=False
    )
    print(json.dumps({"version": llama_cpp.__version__}), flush=True)
    for line in sys.stdin:
        model.reset()
        model.eval([1] * args.prompt)
        started = time.process_time()
        for _ in range(int(line)):
            model.eval([1])
        print(json.dumps(time.process_time() - started), flush=True)


if __name__ == "__main__":
    main()
