"""Conversations that training never drew (data.py's split 'test'), as JSON strings: what
`tollgate-worker --perplexity` reads. usage: heldout.py COUNT SEED OUT.json"""
import json
import random
import sys

from data import sample

count, seed, out = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
rng = random.Random(seed)
texts = []
while len(texts) < count:
    text = "".join(piece for piece, _ in sample(rng, "test")[1])
    if len(text) <= 1000:
        texts.append(text)
with open(out, "w", encoding="utf-8") as f:
    json.dump(texts, f, ensure_ascii=False, indent=0)
    f.write("\n")
