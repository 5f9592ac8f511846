"""Run as a script: loads GGUF files named on stdin as the engine does, one a line, and says how each one went.

Before a file it prints `> NAME`, after it `loaded` or `refused`; so whoever reads knows which file ended the process.
"""

from __future__ import annotations

import ctypes
import os
import sys
from typing import Any

CONTEXT = 64
PROMPT = b"Once upon a time"


def main() -> None:
    # What llama.cpp prints is not wanted, what it aborts with neither.
    out = os.fdopen(os.dup(1), "w", buffering=1)
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)
    import llama_cpp

    llama_cpp.llama_backend_init()
    for line in sys.stdin:
        name = line.rstrip("\n")
        print(">", name, file=out)
        print("loaded" if load(llama_cpp, name.encode()) else "refused", _peak_bytes(), file=out)


def load(engine: Any, path: bytes) -> bool:
    """Load, tokenize, spell every token, decode one."""
    settings = engine.llama_model_default_params()
    settings.use_extra_bufts = False
    settings.n_gpu_layers = 0
    model = engine.llama_model_load_from_file(path, settings)
    if not model:
        return False
    vocabulary = engine.llama_model_get_vocab(model)
    ids = (ctypes.c_int32 * 64)()
    count = engine.llama_tokenize(vocabulary, PROMPT, len(PROMPT), ids, 64, True, True)
    piece = ctypes.create_string_buffer(256)
    for token in range(engine.llama_vocab_n_tokens(vocabulary)):
        engine.llama_token_to_piece(vocabulary, token, piece, 256, 0, True)
    done = count > 0 and decode(engine, model, ids[:count])
    engine.llama_model_free(model)
    return done


def decode(engine: Any, model: Any, tokens: list[int]) -> bool:
    settings = engine.llama_context_default_params()
    settings.n_ctx = settings.n_batch = settings.n_ubatch = CONTEXT
    settings.n_threads = settings.n_threads_batch = 1
    settings.embeddings = True
    context = engine.llama_init_from_model(model, settings)
    if not context:
        return False
    batch = engine.llama_batch_init(len(tokens), 0, 1)
    batch.n_tokens = len(tokens)
    for place, token in enumerate(tokens):
        batch.token[place], batch.pos[place], batch.logits[place] = token, place, 1
        batch.n_seq_id[place], batch.seq_id[place][0] = 1, 0
    failed = engine.llama_decode(context, batch)
    engine.llama_batch_free(batch)
    engine.llama_free(context)
    return not failed


def _peak_bytes() -> int:
    """The most memory that was resident since this program began; 0 where nothing tells."""
    if sys.platform == "linux":  # getrusage also counts what the parent had when it started this process
        with open("/proc/self/status", encoding="ascii", errors="replace") as status:
            return next((int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM:")), 0)
    try:
        import resource
    except ImportError:  # Windows
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    main()
