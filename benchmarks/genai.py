"""onnxruntime-genai called directly, one client by its Generator, several by its Engine: its tokens a second.

    python -P benchmarks/genai.py FOLDER --clients 8 --tokens 64 < prompts.json

Reads a list of prompts for each client, all of which have to get *tokens* tokens; writes tokens a second as JSON.
The peer of onnx.py, in a process of its own, as a program would use the library.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import deque
from collections.abc import Sequence

import numpy as np
import onnxruntime_genai as og


def main() -> int:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--clients", type=int, default=1)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--context", type=int, default=512)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    model = og.Model(_config(options))
    words = og.Tokenizer(model)
    tasks = [[_tokens(words, prompt) for prompt in prompts] for prompts in json.load(sys.stdin)]
    serve = _one_by_one if options.clients == 1 else _together
    serve(model, [prompts[:1] for prompts in tasks], 8, options.context)
    started = time.perf_counter()
    count = serve(model, tasks, options.tokens, options.context)
    seconds = time.perf_counter() - started
    print(json.dumps({"tokens_per_s": count / seconds, "version": og.__version__}))
    return 0


def _config(options: argparse.Namespace) -> og.Config:
    config = og.Config(options.folder)
    config.overlay(
        json.dumps(
            {
                "engine": {"static_batching": {"max_batch_size": options.clients}},
                "model": {"decoder": {"session_options": {"intra_op_num_threads": options.threads}}},
                "search": {"max_length": options.context},
            }
        )
    )
    return config


def _tokens(words: og.Tokenizer, prompt: str) -> np.ndarray:
    asked = words.apply_chat_template(
        messages=json.dumps([{"role": "user", "content": prompt}]), add_generation_prompt=True
    )
    return np.asarray(words.encode(asked), np.int32)


def _one_by_one(model: og.Model, tasks: Sequence[Sequence[np.ndarray]], tokens: int, context: int) -> int:
    """The one client's prompts, greedily; how many tokens."""
    count = 0
    for prompt in (one for prompts in tasks for one in prompts):
        given = og.GeneratorParams(model)
        given.set_search_options(max_length=min(len(prompt) + tokens, context), do_sample=False)
        generator = og.Generator(model, given)
        generator.append_tokens(prompt)
        while not generator.is_done():
            generator.generate_next_token()
            count += 1
    return count


def _together(model: og.Model, tasks: Sequence[Sequence[np.ndarray]], tokens: int, context: int) -> int:
    """A prompt of every client at a time, and each one's next as soon as it has its answer; how many tokens."""
    engine = og.Engine(model)
    left = [deque(prompts) for prompts in tasks]
    owners = {}
    for number in range(len(left)):
        _begin(engine, left, owners, number, tokens)
    events, count = engine.create_event_buffer(4 * len(left)), 0
    while engine.has_pending_requests():
        for event in engine.run(events):
            if event.flags & og.EngineEventFlags.TOKEN:
                count += 1
            if event.flags & og.EngineEventFlags.TURN_FINISHED:
                number = owners.pop(event.request)
                event.request.close()
                _begin(engine, left, owners, number, tokens)
    return count


def _begin(engine: og.Engine, left: list[deque], owners: dict, number: int, tokens: int) -> None:
    if not left[number]:
        return
    request = engine.create_request(options=og.RequestOptions())
    turn = og.TurnOptions(request)
    turn.set_max_generated_tokens(tokens)
    turn.set_do_sample(False)
    owners[request] = number
    request.begin_turn(left[number].popleft(), turn)


if __name__ == "__main__":
    sys.exit(main())
