#!/usr/bin/env bash
# tokenizers 0.23.3: a tokenizer.json in which the ids of added tokens leave a hole behind the vocabulary (three pieces, then <a>
# as 8 and <b> as 10, as where an embedding was padded first) loads without a word, and the tokens have other ids: the library
# counts on from the vocabulary's end. encode gives 3 and 4, and saving writes 3 and 4 into the file, so a model that was
# trained with 8 and 10 reads rows of its embedding that nobody trained. Where there is no hole the ids stay.
# Seen: with a hole [0, 3, 4], saved as 3 and 4; without [0, 3, 4].
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install -q "tokenizers==0.23.3"
cat > holes.py <<'PY'
import json

from tokenizers import Tokenizer


def with_ids(first, second):
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    added = [{"id": id, "content": name, **flags, "special": True} for id, name in ((first, "<a>"), (second, "<b>"))]
    model = {"type": "BPE", "vocab": {"x": 0, "y": 1, "z": 2}, "merges": []}
    nothing = dict.fromkeys(("normalizer", "pre_tokenizer", "post_processor", "decoder"))
    return Tokenizer.from_str(json.dumps({"version": "1.0", "added_tokens": added, "model": model, **nothing}))


hole = with_ids(8, 10)
found = {
    "with a hole": hole.encode("x<a><b>").ids,
    "saved": [token["id"] for token in json.loads(hole.to_str())["added_tokens"]],
    "without": with_ids(3, 4).encode("x<a><b>").ids,
}
print(found)
assert found == {"with a hole": [0, 3, 4], "saved": [3, 4], "without": [0, 3, 4]}, "the behaviour has changed"
PY
venv/bin/python holes.py
