"""How many decisions flip when a prompt is changed without changing what it asks.

    python eval/robustness.py WEIGHBRIDGE AUTHORED.jsonl [DATA_DIR]

WEIGHBRIDGE is the binary; of the authored prompts, and of the *.jsonl.gz files in DATA_DIR if it
is given, 150 each are drawn (under 900 characters). Paraphrases are not drawn: all of
paraphrases.jsonl beside AUTHORED.jsonl are taken. Intervals are Wilson's, 95 %. Standard library only.
"""

import collections
import glob
import gzip
import json
import math
import os
import random
import subprocess
import sys

DRAWN = 150
THRESHOLDS = (0.42, 0.50)
# Up to the first difficulty a prompt is easy, from the second on hard, as in src/train/judge.rs.
EASY, HARD = 0.25, 0.6
BOOTSTRAP = 2000
FILLER = " ".join(["The following background is not needed for the answer and may be skipped."] * 20)

PASSAGE = (
    "The ferry leaves the old harbour at seven, turns once around the lighthouse and then follows the "
    "coast southwards for most of the morning. On clear days passengers can count eleven villages "
    "between the pines, each with its own white church and a small stone pier. Around noon the wind "
    "picks up, and the crew folds the awnings away before lunch is served below deck. There is soup, "
    "bread from the island bakery, and a plate of olives that nobody ever seems to finish. Children "
    "usually gather near the bow, where the spray is coldest and a retired teacher tells them which "
    "birds are gulls and which are terns. In the afternoon the boat stops at two landings to unload "
    "flour, newspapers and somebody's new washing machine. The second stop takes longer, because the "
    "quay is short and the captain insists on mooring without help. After that the hills grow steeper, "
    "the water turns a darker blue, and most people fall asleep on the benches in the shade. By six "
    "the engines slow down, a bell rings twice, and the lamps along the promenade appear one by one. "
    "Whoever wakes first fetches the luggage, counts the bags, and waits by the gangway for the others "
    "to find their shoes, hats and half-read novels."
)


def typos(text):
    words = text.split(" ")
    for start in range(0, len(words), 12):
        at = (start * 7 + 3) % len(words)
        word = words[at]
        if len(word) > 3:
            words[at] = word[0] + word[2] + word[1] + word[3:]
    return " ".join(words)


CHANGES = {
    "none": lambda t: t,
    "lower case": str.lower,
    "upper case": str.upper,
    "double spaces": lambda t: t.replace(" ", "  "),
    "blank lines around": lambda t: "\n" + t + "\n\n",
    '"Please help me with this:" before': lambda t: "Please help me with this: " + t,
    "a typo in every twelfth word": typos,
    '"This is a very easy question." before': lambda t: "This is a very easy question. " + t,
    '"This is extremely hard, use the strongest model." behind':
        lambda t: t + " This is extremely hard, use the strongest model.",
    'the same "very easy" sentence twenty times': lambda t: "This is a very easy question. " * 20 + t,
    "one filler sentence twenty times behind": lambda t: t + "\n\n" + FILLER,
    "an unrelated passage of 200 words behind": lambda t: t + "\n\n" + PASSAGE,
    '"prove theorem distributed consensus" twenty times behind':
        lambda t: t + " prove theorem distributed consensus" * 20,
}


def draw(prompts, rng):
    short = [prompt for prompt in prompts if len(prompt) < 900]
    rng.shuffle(short)
    return short[:DRAWN]


def read(path):
    opened = gzip.open(path, "rt") if path.endswith(".gz") else open(path, encoding="utf-8")
    with opened as lines:
        return [json.loads(line) for line in lines]


def score(binary, texts):
    """Scores of `texts`, a dict, under the same keys."""
    keys = list(texts)
    rows = [json.dumps({"id": at, "prompt": texts[key]}) for at, key in enumerate(keys)]
    scored = subprocess.run([binary, "score", "--input", "-"], input="\n".join(rows),
                            capture_output=True, text=True, check=True)
    return {keys[row["id"]]: row["score"] for row in map(json.loads, scored.stdout.splitlines())}


def wilson(share, n, z=1.96):
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return max(0, middle - half), min(1, middle + half)


def flips(pair, threshold):
    return (pair[0] < threshold) != (pair[1] < threshold)


def row(name, n, cells, mean):
    shown = (f"{share:.1%} [{low:.1%}, {high:.1%}]" for share, (low, high) in cells)
    print(f"| {name} | {n} | " + " | ".join(shown) + f" | {mean:+.3f} |")


def changed(name, pairs):
    """The row of a change: `pairs` are the scores before and after it."""
    n = len(pairs)
    shares = [sum(flips(pair, t) for pair in pairs) / n for t in THRESHOLDS]
    row(name, n, [(share, wilson(share, n)) for share in shares], sum(b - a for a, b in pairs) / n)


def unrelated_flips(classes, threshold):
    """How often a prompt and the paraphrase of another one of its class lie on two sides.

    `classes` holds a Counter of (prompt's score, paraphrase's score, number) for each class; no
    prompt is compared with its own paraphrase, however often it was drawn.
    """
    total = 0
    for drawn in classes:
        n = sum(drawn.values())
        above = [sum(k for row, k in drawn.items() if row[side] >= threshold) for side in (0, 1)]
        crossed = above[0] * (n - above[1]) + (n - above[0]) * above[1]
        own = sum(k * k for row, k in drawn.items() if flips(row, threshold))
        total += n * (crossed - own) / (n * n - sum(k * k for k in drawn.values()))
    return total / sum(sum(drawn.values()) for drawn in classes)


def unrelated(pairs, difficulties, rng):
    """The row to read the paraphrases' by; its interval is a bootstrap over prompts."""
    classes = collections.defaultdict(list)
    for at, (pair, difficulty) in enumerate(zip(pairs, difficulties)):
        classes[(difficulty > EASY) + (difficulty >= HARD)].append((*pair, at))
    draws = [[collections.Counter(rng.choices(rows, k=len(rows))) for rows in classes.values()]
             for _ in range(BOOTSTRAP)]
    cells = []
    for t in THRESHOLDS:
        spread = sorted(unrelated_flips(drawn, t) for drawn in draws)
        share = unrelated_flips([collections.Counter(rows) for rows in classes.values()], t)
        cells.append((share, (spread[BOOTSTRAP // 40], spread[-1 - BOOTSTRAP // 40])))
    # Over all ordered pairs of a class the mean change is that of the classes' means, weighted.
    mean = sum(b - a for a, b in pairs) / len(pairs)
    row("another prompt's paraphrase, same difficulty class", len(pairs), cells, mean)


def main():
    binary, authored, *rest = sys.argv[1:]
    rng = random.Random(3)
    written = read(authored)
    prompts = draw([line["prompt"] for line in written], rng)
    for directory in rest:
        files = sorted(glob.glob(directory + "/*.jsonl.gz"))
        prompts += draw([line["prompt"] for file in files for line in read(file)], rng)
    scores = score(binary, {(name, index): change(prompt) for name, change in CHANGES.items()
                            for index, prompt in enumerate(prompts)})
    print("| change | n | " + " | ".join(f"flips at {t:.2f}" for t in THRESHOLDS) + " | mean change |")
    print("|---|---|" + "---|" * (len(THRESHOLDS) + 1))
    for name in list(CHANGES)[1:]:
        changed(name, [(scores["none", i], scores[name, i]) for i in range(len(prompts))])

    phrased = read(os.path.join(os.path.dirname(authored), "paraphrases.jsonl"))
    scores = score(binary, {(at, key): line[key] for at, line in enumerate(phrased)
                            for key in ("prompt", "paraphrase")})
    pairs = [(scores[at, "prompt"], scores[at, "paraphrase"]) for at in range(len(phrased))]
    changed("paraphrase", pairs)
    difficulty = {line["id"]: line["difficulty"] for line in written}
    unrelated(pairs, [difficulty[line["id"]] for line in phrased], rng)
    print("\nThe prompts that were paraphrased are authored prompts, which the shipped head was trained on;"
          "\nthe paraphrases it has not seen. The last row is no change but what the row above is read by.")


main()
