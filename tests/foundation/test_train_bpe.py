"""The byte-level byte-pair tokenizer."""

import json
import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workingpapers.foundation.errors import InputError, MissingPackageError
from workingpapers.foundation.text import END_OF_TEXT, train_bpe

TEXTS = [
    "Übung macht den Meister.\n\n  def f(x):\n\treturn x ** 2\n",
    "the theme of the thesis",
] * 5
TOKENIZER = train_bpe(TEXTS, 300, extra="demix")


@given(st.text())
def test_every_text_comes_back(text: str) -> None:
    tokens = TOKENIZER.encode(text, add_special_tokens=False).ids
    assert TOKENIZER.decode(tokens, skip_special_tokens=False) == text


def test_numbers_of_the_kinds() -> None:
    kinds = TOKENIZER.get_vocab()
    assert kinds[END_OF_TEXT] == 0
    assert sorted(len(kind) for kind, number in kinds.items() if 1 <= number <= 256) == [1] * 256
    assert sorted(kinds.values()) == list(range(300))
    assert TOKENIZER.encode(f"a{END_OF_TEXT}b").ids[1] == 0


def test_merges_are_the_most_frequent_pairs() -> None:
    # a b: 4 times, blank ab: 3 times, blank-ab c: once. A blank is written as U+0120.
    tokenizer = train_bpe(["ab ab ab abc"], 300, extra="demix")
    merges = json.loads(tokenizer.to_str())["model"]["merges"]
    assert merges == [["a", "b"], ["\u0120", "ab"], ["\u0120ab", "c"]]
    assert tokenizer.get_vocab_size() == 257 + 3
    assert tokenizer.encode("ab ab").tokens == ["ab", "\u0120ab"]


def test_same_texts_same_tokenizer_with_any_number_of_threads() -> None:
    script = (
        "from workingpapers.foundation.text import train_bpe\n"
        f"print(train_bpe({TEXTS!r}, 300, extra='demix').to_str(), end='')"
    )
    for threads in ("1", "4"):
        environment = {**os.environ, "RAYON_NUM_THREADS": threads, "PYTHONIOENCODING": "utf-8"}
        command = [sys.executable, "-c", script]
        done = subprocess.run(command, env=environment, capture_output=True, check=True)
        assert done.stdout.decode() == TOKENIZER.to_str()


def test_refusals(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError) as error:
        train_bpe(["a"], 256, extra="demix")
    assert str(error.value) == "vocabulary: expected at least 257 kinds of tokens, got 256"
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(MissingPackageError) as missing:
        train_bpe(["a"], 300, extra="demix")
    assert str(missing.value) == (
        "tokenizers is not installed: pip install 'workingpapers[demix]' brings it"
    )
