"""How many decisions flip when a prompt is changed without changing what it asks.

    python eval/robustness.py WEIGHBRIDGE AUTHORED.jsonl [DATA_DIR]

WEIGHBRIDGE is the binary; of the authored prompts, and of the *.jsonl.gz files in DATA_DIR if it
is given, 150 each are drawn (under 900 characters). Standard library only.
"""

import glob
import gzip
import json
import random
import subprocess
import sys

DRAWN = 150
THRESHOLDS = (0.42, 0.50)
FILLER = " ".join(["The following background is not needed for the answer and may be skipped."] * 20)


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
    "240 words of filler behind": lambda t: t + "\n\n" + FILLER,
    '"prove theorem distributed consensus" twenty times behind':
        lambda t: t + " prove theorem distributed consensus" * 20,
}


def draw(prompts, rng):
    short = [prompt for prompt in prompts if len(prompt) < 900]
    rng.shuffle(short)
    return short[:DRAWN]


def main():
    binary, authored, *rest = sys.argv[1:]
    rng = random.Random(3)
    prompts = draw([json.loads(line)["prompt"] for line in open(authored)], rng)
    for directory in rest:
        files = sorted(glob.glob(directory + "/*.jsonl.gz"))
        lines = (line for file in files for line in gzip.open(file, "rt"))
        prompts += draw([json.loads(line)["prompt"] for line in lines], rng)
    rows = [
        json.dumps({"id": [name, index], "prompt": change(prompt)})
        for name, change in CHANGES.items()
        for index, prompt in enumerate(prompts)
    ]
    scored = subprocess.run([binary, "score", "--input", "-"], input="\n".join(rows),
                            capture_output=True, text=True, check=True)
    scores = {tuple(row["id"]): row["score"] for row in map(json.loads, scored.stdout.splitlines())}
    print(f"n = {len(prompts)} prompts")
    print("| change | " + " | ".join(f"flips at {t:.2f}" for t in THRESHOLDS) + " | mean change |")
    print("|---|" + "---|" * (len(THRESHOLDS) + 1))
    for name in list(CHANGES)[1:]:
        pairs = [(scores["none", i], scores[name, i]) for i in range(len(prompts))]
        flips = (sum((a < t) != (b < t) for a, b in pairs) / len(pairs) for t in THRESHOLDS)
        mean = sum(b - a for a, b in pairs) / len(pairs)
        print(f"| {name} | " + " | ".join(f"{flip:.1%}" for flip in flips) + f" | {mean:+.3f} |")


main()
