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
