"""How well a promised share of strong calls is met on rows that did not choose the threshold.

    python eval/shares.py WEIGHBRIDGE DATA_DIR

Of each *.jsonl.gz file in DATA_DIR with more than 700 rows, scored as the gateway would, 500 rows are
drawn 40 times as one decision log: `tune --log A --strong-share GOAL --write` promises a share, and
`replay --log B` counts it on all other rows. Standard library only.
"""

import glob
import gzip
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile

ROWS, DRAWS, GOALS, NEAR = 500, 40, (0.2, 0.5), 0.02
LEAST_ROWS = 700
CONFIG = """
[providers.nobody]
base_url = "http://127.0.0.1:9/v1"
[models.small]
provider = "nobody"
[models.large]
provider = "nobody"
[policies.auto]
[[policies.auto.tiers]]
name = "cheap"
below = 0.42
models = ["small"]
[[policies.auto.tiers]]
name = "strong"
models = ["large"]
"""


def run(binary, *arguments, **more):
    done = subprocess.run([binary, *arguments], capture_output=True, text=True, check=True, **more)
    return done.stdout


def decision(at, score):
    return json.dumps({"type": "decision", "id": str(at), "policy": "auto", "score": score,
                       "tier": "cheap", "model": "small"})


def draw(binary, directory, scores, goal, rng):
    """The promised and the realised share."""
    order = rng.sample(range(len(scores)), len(scores))
    config, log_a, log_b = (os.path.join(directory, name) for name in ("c.toml", "a.jsonl", "b.jsonl"))
    for path, text in ((config, CONFIG), (log_a, decisions(scores, order[:ROWS])),
                       (log_b, decisions(scores, order[ROWS:]))):
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
    goal = ["--strong-share", str(goal), "--write", "--json"]
    tuned = json.loads(run(binary, "tune", "--config", config, "--log", log_a, *goal))
    replayed = json.loads(run(binary, "replay", "--config", config, "--log", log_b, "--json"))
    promised = tuned["tuned"]["promised"]["shares"][-1]["value"]
    return promised, replayed["after"]["tiers"].get("strong", 0) / replayed["requests"]


def decisions(scores, rows):
    return "\n".join(decision(at, scores[at]) for at in rows) + "\n"


def main():
    binary, data = sys.argv[1:]
    print("| data set | unseen | goal | promised, mean | realised, mean | mean distance | within 0.02 |")
    print("|---|---|---|---|---|---|---|")
    for path in sorted(glob.glob(data + "/*.jsonl.gz")):
        with gzip.open(path, "rt") as lines:
            rows = [json.loads(line) for line in lines]
        if len(rows) < LEAST_ROWS:
            continue
        texts = "\n".join(json.dumps({"id": at, "prompt": row["prompt"]}) for at, row in enumerate(rows))
        scored = map(json.loads, run(binary, "score", "--input", "-", input=texts).splitlines())
        scores = [row["score"] for row in sorted(scored, key=lambda row: row["id"])]
        for goal in GOALS:
            rng = random.Random(1)
            with tempfile.TemporaryDirectory() as directory:
                found = [draw(binary, directory, scores, goal, rng) for _ in range(DRAWS)]
            distances = [abs(promised - realised) for promised, realised in found]
            near = sum(distance <= NEAR for distance in distances)
            promised, realised = (statistics.fmean(side) for side in zip(*found))
            print(f"| {rows[0]['dataset']} | {len(rows) - ROWS:,} | {goal} | {promised:.3f} | {realised:.3f} | "
                  f"{statistics.fmean(distances):.3f} | {near} of {DRAWS} |", flush=True)


if __name__ == "__main__":
    main()
