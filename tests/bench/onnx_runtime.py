"""Scoring against ONNX Runtime fp32, taking turns in one run.

    pip install -r tests/bench/requirements.txt
    python tests/bench/onnx_runtime.py [--seconds S]

Both sides have the same weights (models/weighbridge-minilm), the same texts and the same number of
threads, and tokenise inside the measurement. ONNX Runtime runs the graph that its own optimiser aims
for: fused embedding, attention, bias + GELU and skip + layer norm operators. Weighbridge gives a
score (encoder, words, facts, head), ONNX Runtime an embedding. Each text is computed twice by each
side and the second time counts, so that neither pays for the caches the other has emptied.
Intervals are 95 % bootstraps of the ratio of medians, over texts or rounds.
"""

import argparse
import json
import pathlib
import queue
import re
import statistics
import subprocess
import threading
import time

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import load_file
from tokenizers import Tokenizer

ROOT = pathlib.Path(__file__).resolve().parents[2]
MODEL = ROOT / "models" / "weighbridge-minilm"
LENGTHS = [16, 32, 64, 128, 256]
WORDS = (
    "order three boxes nails deliver summary table green river engine matrix prove cheap window "
    "second compare"
).split()
FUSED = "com.microsoft"  # the domain of ONNX Runtime's fused operators


def text(tokens, random):
    """A text of `tokens` tokens, special ones included: each word here is one token."""
    return " ".join(random.choice(WORDS, tokens - 2))


def graph():
    """The encoder as ONNX Runtime's transformer optimiser would leave it."""
    config = json.loads((MODEL / "config.json").read_text())
    heads, layers = config["num_attention_heads"], config["num_hidden_layers"]
    eps = config["layer_norm_eps"]
    weights = {k: v.astype(np.float32) for k, v in load_file(MODEL / "model.safetensors").items()}
    initializers, nodes = [], []

    def tensor(name, values):
        initializers.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def get(name):
        return tensor(name, weights[name])

    def linear(names, where):
        """`(weight, bias)` of products that are computed side by side."""
        weight = np.concatenate([weights[f"{name}.weight"].T for name in names], 1)
        bias = np.concatenate([weights[f"{name}.bias"] for name in names])
        return tensor(f"{where}.weight", weight), tensor(f"{where}.bias", bias)

    def norm(name):
        return get(f"{name}.weight"), get(f"{name}.bias")

    def node(operator, inputs, outputs, domain=FUSED, **attributes):
        nodes.append(helper.make_node(operator, inputs, outputs, domain=domain, **attributes))

    tables = [f"embeddings.{t}_embeddings.weight" for t in ("word", "position", "token_type")]
    embed = ["ids", "types", *map(get, tables), *norm("embeddings.LayerNorm"), "mask"]
    node("EmbedLayerNormalization", embed, ["x", "masked"], epsilon=eps)
    x = "x"
    for index in range(layers):
        at = f"encoder.layer.{index}"
        qkv = [f"{at}.attention.self.{name}" for name in ("query", "key", "value")]
        out = [f"{at}/{step}" for step in ("attended", "mixed", "a", "wide", "gelu", "narrow", "x")]
        attended, mixed, a, wide, gelu, narrow, after = out
        node("Attention", [x, *linear(qkv, f"{at}/qkv"), "masked"], [attended], num_heads=heads)
        weight, bias = linear([f"{at}.attention.output.dense"], f"{at}/mix")
        node("MatMul", [attended, weight], [mixed], domain="")
        skip = [mixed, x, *norm(f"{at}.attention.output.LayerNorm"), bias]
        node("SkipLayerNormalization", skip, [a], epsilon=eps)
        weight, bias = linear([f"{at}.intermediate.dense"], f"{at}/widen")
        node("MatMul", [a, weight], [wide], domain="")
        node("BiasGelu", [wide, bias], [gelu])
        weight, bias = linear([f"{at}.output.dense"], f"{at}/narrow")
        node("MatMul", [gelu, weight], [narrow], domain="")
        skip = [narrow, a, *norm(f"{at}.output.LayerNorm"), bias]
        node("SkipLayerNormalization", skip, [after], epsilon=eps)
        x = after
    node("ReduceMean", [x], ["mean"], domain="", axes=[1], keepdims=0)
    node("LpNormalization", ["mean"], ["embedding"], domain="", axis=1, p=2)
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.INT32, ["batch", "tokens"])
        for name in ("ids", "types", "mask")
    ]
    output = helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["batch", 384])
    built = helper.make_graph(nodes, "minilm", inputs, [output], initializers)
    opsets = [helper.make_opsetid("", 13), helper.make_opsetid(FUSED, 1)]
    model = helper.make_model(built, opset_imports=opsets)
    model.ir_version = 8
    return model.SerializeToString()


class OnnxRuntime:
    """A session with `threads` threads; texts of one batch have one length."""

    def __init__(self, model, threads):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        providers = ["CPUExecutionProvider"]
        self.session = onnxruntime.InferenceSession(model, options, providers=providers)
        self.tokenizer = Tokenizer.from_file(str(MODEL / "tokenizer.json"))
        self.tokenizer.no_padding()
        self.tokenizer.no_truncation()

    def embed(self, texts):
        ids = [self.tokenizer.encode(text).ids for text in texts]
        ids = np.array(ids, np.int32)
        feed = {"ids": ids, "types": np.zeros_like(ids), "mask": np.ones_like(ids)}
        return self.session.run(None, feed)[0]


class Weighbridge:
    """The `scoring` bench as a child that answers line by line and takes its own time."""

    def __init__(self):
        command = ["cargo", "bench", "--bench", "scoring", "--no-run"]
        built = subprocess.run(command, cwd=ROOT, check=True, stderr=subprocess.PIPE, text=True)
        binary = re.search(r"scoring\.rs \((.+)\)", built.stderr).group(1)
        pipe = subprocess.PIPE
        self.child = subprocess.Popen([binary, "--child"], stdin=pipe, stdout=pipe, text=True)
        self.kernel = self.ask("kernel")["kernel"]

    def ask(self, request):
        self.child.stdin.write(json.dumps(request) + "\n")
        self.child.stdin.flush()
        return json.loads(self.child.stdout.readline())


def interval(ours, theirs, random):
    """`theirs / ours` by medians: the value and a paired bootstrap's 2.5 and 97.5 percentiles."""
    ours, theirs = np.array(ours), np.array(theirs)
    drawn = random.integers(0, len(ours), (2000, len(ours)))
    ratios = np.median(theirs[drawn], 1) / np.median(ours[drawn], 1)
    return np.median(theirs) / np.median(ours), *np.percentile(ratios, [2.5, 97.5])


def one_thread(ours, theirs, seconds, random):
    print(f"one thread, milliseconds a text, median: weighbridge ({ours.kernel}) and ONNX Runtime")
    print(" tokens  weighbridge  onnxruntime   ratio [95 %]           n")
    for tokens in LENGTHS:
        assert len(theirs.tokenizer.encode(text(tokens, random)).ids) == tokens
        times, end = [], time.monotonic() + seconds
        while time.monotonic() < end or len(times) < 11:
            new = text(tokens, random)
            mine = ours.ask({"time": new})
            assert mine["tokens"] == tokens
            theirs.embed([new])
            start = time.perf_counter()
            theirs.embed([new])
            times.append((mine["ms"], (time.perf_counter() - start) * 1e3))
        mine, other = zip(*times)
        ratio, low, high = interval(mine, other, random)
        print(
            f"{tokens:7} {statistics.median(mine):12.3f} {statistics.median(other):12.3f}"
            f"   {ratio:.2f} [{low:.2f}, {high:.2f}] {len(times):11}",
            flush=True,
        )


def flood(sessions, batch, seconds, random):
    """Texts a second with one thread a session, each taking batches from a queue that stays full."""
    texts, done, end = queue.SimpleQueue(), [], time.monotonic() + seconds
    for _ in range(8):
        texts.put(text(64, random))

    def work(session):
        while time.monotonic() < end:
            taken = [texts.get() for _ in range(batch)]
            session.embed(taken)
            done.append(len(taken))
            for new in taken:
                texts.put(new)

    threads = [threading.Thread(target=work, args=(session,)) for session in sessions]
    start = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(done) / (time.monotonic() - start)


def two_cores(ours, model, seconds, random):
    one, two = [OnnxRuntime(model, 1) for _ in range(2)], [OnnxRuntime(model, 2)]
    arrangements = {
        "2 sessions of 1 thread, batches of 1": (one, 1),
        "2 sessions of 1 thread, batches of 4": (one, 4),
        "1 session of 2 threads, batches of 1": (two, 1),
        "1 session of 2 threads, batches of 8": (two, 8),
    }
    rates = {name: [] for name in ["weighbridge", *arrangements]}
    for _ in range(9):
        answer = ours.ask({"flood": [text(64, random) for _ in range(4096)], "seconds": seconds})
        rates["weighbridge"].append(answer["rate"])
        for name, (sessions, batch) in arrangements.items():
            rates[name].append(flood(sessions, batch, seconds, random))
    print("\n2 cores, 8 in flight, 64 tokens: texts a second, median of 9 rounds")
    best = max(arrangements, key=lambda name: statistics.median(rates[name]))
    for name, of in rates.items():
        print(f"  {statistics.median(of):6.0f}  {name}")
    ratio, low, high = interval(rates[best], rates["weighbridge"], random)
    print(f"  ratio to the best arrangement: {ratio:.2f} [{low:.2f}, {high:.2f}]")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=5.0, help="for each length and round")
    seconds = parser.parse_args().seconds
    random = np.random.default_rng(1)
    model = graph()
    ours, theirs = Weighbridge(), OnnxRuntime(model, 1)
    print(f"onnxruntime {onnxruntime.__version__}, onnx {onnx.__version__}, {time.strftime('%F')}")
    one_thread(ours, theirs, seconds, random)
    two_cores(ours, model, min(seconds, 2.0), random)


if __name__ == "__main__":
    main()
