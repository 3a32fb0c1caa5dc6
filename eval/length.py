"""Is prompt length a score that carries over? Three answers, APGR with 95 % intervals.

    python eval/length.py sets HELD_OUT.jsonl RECIPE.toml DATA_DIR
    python eval/length.py bench WEIGHBRIDGE BENCH_DIR

`sets`: on each training data set, length, the head that never saw the set (`weighbridge train --recipe
RECIPE --held-out HELD_OUT.jsonl`), and mixtures of both; then what choosing the mixture on the other
sets gives on the set that was left out. `bench`: the shipped head minus length on RouteLLM's
benchmark, paired, on the rows that `weighbridge eval --suite routellm` judges. Intervals are
bootstraps over prompts. Standard library only.
"""

import bisect
import glob
import gzip
import json
import math
import os
import random
import statistics
import subprocess
import sys
import tempfile
import tomllib

DRAWS = {"sets": 200, "bench": 1_000}
# Shares of length in a mixture of two scores of spread 1.
SHARES = (0.0, 0.5, 1.0)
LEAST_GAP = 0.03
BENCH = {"MMLU": "routellm_mmlu", "GSM8K": "routellm_gsm8k", "MT-bench": "routellm_mt_bench"}
# So that the whole head scores, never words and facts alone.
CONFIG = """
[classifier]
static_margin = 1
[providers.nobody]
base_url = "http://127.0.0.1:9/v1"
[models.any]
provider = "nobody"
[policies.auto]
[[policies.auto.tiers]]
name = "any"
models = ["any"]
"""
STRONG, WEAK = "gpt-4-1106-preview", "mixtral-8x7b-instruct-v0.1"


def read(path):
    opened = gzip.open(path, "rt") if path.endswith(".gz") else open(path, encoding="utf-8")
    with opened as lines:
        return [json.loads(line) for line in lines]


def quantile(ordered, share):
    at = share * (len(ordered) - 1)
    low = math.floor(at)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (at - low)


def apgr(rows):
    """Of (score, gain): RouteLLM's, thresholds at the deciles of the scores."""
    rows = sorted(rows)
    scores = [score for score, _ in rows]
    n, total = len(rows), sum(gain for _, gain in rows)
    above, behind = [0.0], 0.0
    for _, gain in reversed(rows):
        behind += gain
        above.append(behind)
    thresholds = sorted({quantile(scores, step / 10) for step in range(11)})
    counts = [n - bisect.bisect_left(scores, t) for t in thresholds[:-1]] + [0]
    points = [(count / n, above[count] / total) for count in reversed(counts)]
    return sum((b[0] - a[0]) * (a[1] + b[1]) / 2 for a, b in zip(points, points[1:]))


def words(prompt, rng):
    """Equal lengths stand in random order."""
    return len(prompt.split()) + rng.random() / 2


def spread_1(values):
    mean, spread = statistics.fmean(values), statistics.pstdev(values)
    return [(value - mean) / spread for value in values]


def interval(values):
    ordered = sorted(values)
    return quantile(ordered, 0.025), quantile(ordered, 0.975)


def shown(value, drawn, sign=""):
    low, high = interval(drawn)
    return f"{value:{sign}.3f} [{low:.3f}, {high:.3f}]"


def over_draws(n, measure, draws):
    """`measure` of all rows, and of that many draws of them, the same for every measure."""
    rng = random.Random(2)
    drawn = [measure([rng.randrange(n) for _ in range(n)]) for _ in range(draws)]
    return measure(range(n)), drawn


def mean_over_pairs(pairs, score):
    """A function of row numbers: APGR of `score`, mean over pairs' gains (None: not answered)."""
    def measure(drawn):
        areas = []
        for gains in pairs:
            areas.append(apgr([(score[at], gains[at]) for at in drawn if gains[at] is not None]))
        return statistics.fmean(areas)
    return measure


def gains_of(rows, strong, weak):
    def gain(row):
        scores = [(row["results"].get(name) or {}).get("score") for name in (strong, weak)]
        return None if None in scores else scores[0] - scores[1]
    gains = [gain(row) for row in rows]
    known = [gain for gain in gains if gain is not None]
    return gains if known and statistics.fmean(known) >= LEAST_GAP else None


def sets(held_out, recipe, directory):
    rng = random.Random(1)
    scores = {(line["dataset"], line["id"]): line["score"] for line in read(held_out)}
    with open(recipe, "rb") as file:
        recipe_pairs = tomllib.load(file)["pairs"]
    found, shape = {}, " | ".join(f"{share:.0%} length" for share in SHARES)
    print(f"| left out | n | pairs | {shape} | pairs where length is above 0.5 |")
    print("|---|---|---|" + "---|" * (len(SHARES) + 1))
    for path in sorted(glob.glob(directory + "/*.jsonl.gz")):
        rows = read(path)
        name = rows[0]["dataset"]
        pairs = [gains_of(rows, *pair) for pair in recipe_pairs[name]]
        pairs = [gains for gains in pairs if gains is not None]
        head = spread_1([scores[name, row["id"]] for row in rows])
        length = [math.log1p(words(row["prompt"], rng)) for row in rows]
        length = spread_1(length)
        mixed = {share: [(1 - share) * a + share * b for a, b in zip(head, length)] for share in SHARES}
        found[name] = {share: over_draws(len(rows), mean_over_pairs(pairs, mixed[share]), DRAWS["sets"])
                       for share in SHARES}
        up = sum(apgr([(s, g) for s, g in zip(length, gains) if g is not None]) > 0.5 for gains in pairs)
        cells = " | ".join(shown(*found[name][share]) for share in SHARES)
        print(f"| {name} | {len(rows):,} | {len(pairs)} | {cells} | {up} of {len(pairs)} |", flush=True)
    mean = {share: statistics.fmean(found[name][share][0] for name in found) for share in SHARES}
    print("| mean | | | " + " | ".join(f"{mean[share]:.3f}" for share in SHARES) + " | |")
    print("\nChosen on the other sets, judged on the one left out:")
    gained = []
    for name in found:
        others = {share: statistics.fmean(found[other][share][0] for other in found if other != name)
                  for share in SHARES}
        best = max(SHARES, key=others.get)
        (with_it, drawn_with), (without, drawn_without) = found[name][best], found[name][0.0]
        gained.append((with_it - without, [a - b for a, b in zip(drawn_with, drawn_without)]))
        print(f"  {name}: the others choose {best:.0%} length ({others[best]:.3f}, head alone "
              f"{others[0.0]:.3f}); here that is {shown(*gained[-1], '+')} against the head alone")
    total = statistics.fmean(value for value, _ in gained)
    drawn = [statistics.fmean(draw) for draw in zip(*(drawn for _, drawn in gained))]
    print(f"  mean {shown(total, drawn, '+')}")


def scores_of(binary, lines):
    with tempfile.NamedTemporaryFile("w", suffix=".toml") as config:
        config.write(CONFIG)
        config.flush()
        command = [binary, "score", "--config", config.name, "--input", "-"]
        scored = subprocess.run(command, input=lines, capture_output=True, text=True, check=True)
    return {row["id"]: row["score"] for row in map(json.loads, scored.stdout.splitlines())}


def bench(binary, directory):
    print("| set | n | head | length | head minus length |\n|---|---|---|---|---|")
    for name, file in BENCH.items():
        rng = random.Random(1)
        rows = read(os.path.join(directory, file + ".jsonl.gz"))
        rows = [row for row in rows if not row.get("contaminated")]
        lines = "\n".join(json.dumps({"id": at, "prompt": row["prompt"]}) for at, row in enumerate(rows))
        head = scores_of(binary, lines)
        gains = [row["results"][STRONG]["score"] - row["results"][WEAK]["score"] for row in rows]
        length = [words(row["prompt"], rng) for row in rows]
        of = {}
        for key, score in (("head", [head[at] for at in range(len(rows))]), ("length", length)):
            of[key] = over_draws(len(rows), mean_over_pairs([gains], score), DRAWS["bench"])
        minus = of["head"][0] - of["length"][0], [a - b for a, b in zip(of["head"][1], of["length"][1])]
        print(f"| {name} | {len(rows):,} | {shown(*of['head'])} | {shown(*of['length'])} | "
              f"{shown(*minus, '+')} |", flush=True)


if __name__ == "__main__":
    {"sets": sets, "bench": bench}[sys.argv[1]](*sys.argv[2:])
