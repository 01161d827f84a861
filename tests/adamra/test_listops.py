"""ListOps: values, the distribution of trees, splits that share none, files."""

import re
import statistics

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workingpapers.adamra import listops_kernels
from workingpapers.adamra.listops import (
    OPERATORS,
    SYMBOLS,
    VOCABULARY,
    evaluate,
    from_symbols,
    read_tsv,
    root_and_digits,
    sample_listops,
    to_symbols,
    write_tsv,
)
from workingpapers.foundation.errors import InputError

OPERATIONS = {
    "[MIN": min,
    "[MAX": max,
    "[MED": lambda arguments: int(statistics.median(arguments)),
    "[SM": lambda arguments: sum(arguments) % 10,
}


def parse(symbols):
    """(operator, arguments) or a digit, from an iterator over symbols."""
    symbol = next(symbols)
    if symbol not in OPERATIONS:
        return int(symbol) if symbol != "]" else None
    arguments = []
    while (argument := parse(symbols)) is not None:
        arguments.append(argument)
    return symbol, arguments


def run(symbols):
    """Value and most open brackets of an expression, by a stack machine."""
    stack = [[]]
    deepest = 0
    for symbol in symbols:
        if symbol in OPERATIONS:
            stack.append([symbol])
            deepest = max(deepest, len(stack) - 1)
        elif symbol == "]":
            operator, *arguments = stack.pop()
            stack[-1].append(OPERATIONS[operator](arguments))
        else:
            stack[-1].append(int(symbol))
    [[value]] = stack
    return value, deepest


def size(tree):
    return 1 if isinstance(tree, int) else 2 + sum(map(size, tree[1]))


def in_pairs(tree):
    """The tree as Long Range Arena writes it, by its own recursive definition."""
    if isinstance(tree, int):
        return str(tree)
    text, arguments = tree
    for argument in (*map(in_pairs, arguments), "]"):
        text = f"( {text} {argument} )"
    return text


def short(count=200, seed=0, split="train", **options):
    return sample_listops(
        count, **{"least": 31, "most": 256, "seed": seed, "split": split, **options}
    )


def grown(rng, trials, rows, most=2000, max_depth=10, least=1, kernel=listops_kernels.grow):
    tokens = np.zeros((rows, most), np.uint8)
    lengths, depths = np.zeros((2, rows), np.int64)
    filled = kernel(rng, least, most, max_depth, trials, tokens, lengths, depths)
    return tokens[:filled], lengths[:filled], depths[:filled]


def test_labels_depths_and_operators_are_those_of_the_trees():
    sample = short(10_000)
    names = np.array(["", *SYMBOLS], object)
    for tokens, label, depth, operator in zip(*sample, strict=True):
        symbols = names[tokens[tokens > 0]].tolist()
        assert run(symbols) == (label, depth)
        assert symbols[0] == OPERATORS[operator]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("7", 7),
        ("[MIN 4 2 9 ]", 2),
        ("[MAX 4 2 9 ]", 9),
        ("[MED 1 2 ]", 1),
        ("[MED 9 0 4 3 ]", 3),
        ("[MED 9 0 4 ]", 4),
        ("[MED 5 5 6 6 ]", 5),
        ("[SM 9 9 9 ]", 7),
        ("[MAX 2 9 [MIN 4 7 ] 0 ]", 9),
        ("[MED [SM 5 5 ] [MAX 1 8 ] [MED 2 7 ] ]", 4),
    ],
)
def test_values_of_known_expressions(text, expected):
    assert evaluate(from_symbols(text.split())[None]) == [expected]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[MIN 1 2",
        "[MIN 1 2 ] ]",
        "[MIN ]",
        "]",
        "1 2",
        "[MAX 1 ] 2",
        "[SM [SM",
        "[MIN [MAX 3 ]",
    ],
)
def test_what_is_no_whole_expression_has_no_value(text):
    tokens = np.zeros((2, 12), np.uint8)
    tokens[0, 0] = 6
    symbols = text.split()
    tokens[1, : len(symbols)] = from_symbols(symbols)
    with pytest.raises(InputError, match=r"^tokens\[1\]: expected one whole ListOps expression$"):
        evaluate(tokens)


def test_padding_is_only_at_the_end():
    with pytest.raises(InputError, match="one whole"):
        evaluate(np.array([[6, 0, 6]]))


@pytest.mark.parametrize("function", [evaluate, root_and_digits])
def test_tokens_beyond_the_vocabulary_are_refused(function):
    with pytest.raises(InputError, match=r"^tokens: expected 0 to 15, found 1 to 16$"):
        function(np.array([[1, 6, 16, 5]]))


def test_lengths_lie_strictly_between_the_bounds():
    sample = short(300, least=31, most=34)
    assert sample.tokens.shape == (300, 34)
    sizes = [size(parse(iter(to_symbols(tokens)))) for tokens in sample.tokens]
    assert set(sizes) == {32, 33}
    assert sizes == (sample.tokens != 0).sum(axis=1).tolist()


def test_long_sequences_are_those_of_long_range_arena():
    _, lengths, _ = grown(np.random.default_rng(0), 100_000, 20_000, least=500)
    # Plain recursion keeps 8.3 % of 300,000 trees; the standard error here is 0.09 %.
    assert len(lengths) / 100_000 == pytest.approx(0.083, abs=0.003)
    sample = sample_listops(5000, least=500, most=2000, seed=0, split="train")
    shares = np.bincount(sample.labels, minlength=10) / 5000
    assert shares[[0, 9]] == pytest.approx([0.168, 0.168], abs=0.015)
    assert shares[1:9] == pytest.approx(np.full(8, 0.083), abs=0.02)
    assert np.bincount(sample.root_operators) / 5000 == pytest.approx(np.full(4, 0.25), abs=0.03)


def test_operators_arguments_and_digits_are_uniform():
    tokens, lengths, depths = grown(np.random.default_rng(1), 400_000, 100_000, 32, max_depth=2)
    lists = depths == 1
    # A tree of one digit is none of 1 < length.
    assert lists.all()
    assert len(tokens) / 400_000 == pytest.approx(0.25, abs=0.003)
    kinds = np.bincount((tokens[:, 0] - 1) * 9 + lengths - 4, minlength=36) / len(tokens)
    assert kinds == pytest.approx(np.full(36, 1 / 36), abs=0.0025)
    digits = np.bincount(tokens.ravel(), minlength=VOCABULARY)[6:]
    assert digits / digits.sum() == pytest.approx(np.full(10, 0.1), abs=0.003)


def test_an_argument_is_a_list_with_a_probability_of_a_quarter():
    tokens, _, _ = grown(np.random.default_rng(2), 40_000, 20_000, 256, max_depth=3)
    _, digits = root_and_digits(tokens)
    arguments = [len(parse(iter(to_symbols(row)))[1]) for row in tokens[:2000]]
    assert digits[:2000].sum() / sum(arguments) == pytest.approx(0.75, abs=0.02)


def test_a_split_is_a_property_of_the_tree():
    # [MIN 0 0 ] to [SM 9 9 ]: 400 trees in all.
    tiny = {"least": 3, "most": 5, "max_depth": 2}
    found = {}
    for split, seed in (("train", 0), ("validation", 1), ("test", 2)):
        with pytest.raises(InputError, match=f"the split {split} has no more") as raised:
            short(401, seed, split, **tiny)
        count = int(re.search(r"at most (\d+)", str(raised.value))[1])
        found[split] = {row.tobytes() for row in short(count, seed, split, **tiny).tokens}
        assert len(found[split]) == count
    assert len(set.union(*found.values())) == sum(map(len, found.values())) == 400
    assert len(found["train"]) == pytest.approx(320, abs=25)
    # crc32 of these four bytes ends in 0 to 7, in all processes and versions.
    assert from_symbols(["[MIN", "0", "0", "]"]).tobytes() + b"\0" in found["train"]


def test_the_first_sequences_do_not_depend_on_the_number():
    few, many = short(10, 3), short(400, 3)
    assert all((a == b[:10]).all() for a, b in zip(few, many, strict=True))
    assert not np.array_equal(short(10, 4).tokens, few.tokens)


def test_compiled_loops_do_what_their_python_does():
    fast = grown(np.random.default_rng(5), 2000, 100, 256, least=31)
    slow = grown(
        np.random.default_rng(5), 2000, 100, 256, least=31, kernel=listops_kernels.grow.py_func
    )
    assert len(fast[0]) > 30
    assert all(np.array_equal(a, b) for a, b in zip(fast, slow, strict=True))
    values = np.empty(len(fast[0]), np.int64)
    listops_kernels.work_out.py_func(fast[0], values)
    assert np.array_equal(values, evaluate(fast[0]))
    counts = np.zeros((len(fast[0]), 10), np.int64)
    listops_kernels.count_direct_digits.py_func(fast[0], counts)
    assert np.array_equal(counts, root_and_digits(fast[0])[1])


def test_root_and_digits_ignores_what_is_deeper():
    sample = short(300)
    operators, digits = root_and_digits(sample.tokens)
    assert np.array_equal(operators, sample.root_operators)
    for tokens, counts in zip(sample.tokens, digits, strict=True):
        _, arguments = parse(iter(to_symbols(tokens)))
        direct = [argument for argument in arguments if isinstance(argument, int)]
        assert np.array_equal(counts, np.bincount(np.array(direct, int), minlength=10))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"count": 0}, "count: expected at least 1, got 0"),
        ({"least": 0}, "least: expected at least 1, got 0"),
        ({"least": 31, "most": 32}, "most: expected at least 33, got 32"),
        ({"seed": -1}, "seed: expected at least 0, got -1"),
        ({"max_depth": 1}, "max_depth: expected at least 2, got 1"),
        ({"split": "dev"}, "split: expected train, validation, test, got dev"),
        (
            {"least": 12, "most": 20, "max_depth": 2},
            "count: expected at most 0, got 1: the split train has no more trees with "
            "12 < length < 20 and max_depth = 2",
        ),
    ],
)
def test_arguments_out_of_range_are_named(options, message):
    with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
        short(**{"count": 1, **options})


@given(st.lists(st.sampled_from(SYMBOLS), min_size=1))
@settings(max_examples=30)
def test_symbols_come_back(symbols):
    padded = np.append(from_symbols(symbols), [0, 0])
    assert to_symbols(padded) == symbols


def test_a_written_file_is_long_range_arenas(tmp_path):
    file = tmp_path / "basic_train.tsv"
    tokens = np.zeros((2, 8), np.uint8)
    for row, text in zip(tokens, ("[MAX 3 4 ]", "[MIN 3 [SM 1 2 ] 4 ]"), strict=True):
        symbols = from_symbols(text.split())
        row[: len(symbols)] = symbols
    write_tsv(file, tokens, np.array([4, 3]))
    assert file.read_text() == (
        "Source\tTarget\n"
        "( ( ( [MAX 3 ) 4 ) ] )\t4\n"
        "( ( ( ( [MIN 3 ) ( ( ( [SM 1 ) 2 ) ] ) ) 4 ) ] )\t3\n"
    )


def test_files_come_back(tmp_path):
    file = tmp_path / "basic_test.tsv"
    sample = short(50)
    write_tsv(file, sample.tokens, sample.labels)
    lines = file.read_text().splitlines()[1:]
    trees = [parse(iter(to_symbols(tokens))) for tokens in sample.tokens]
    assert [line.split("\t")[0] for line in lines] == [in_pairs(tree) for tree in trees]
    tokens, labels = read_tsv(file, 256)
    assert np.array_equal(tokens, sample.tokens)
    assert np.array_equal(labels, sample.labels)
    cut, _ = read_tsv(file, 20)
    assert np.array_equal(cut, sample.tokens[:, :20])


def test_parentheses_line_ends_and_a_byte_order_mark_do_not_matter(tmp_path):
    file = tmp_path / "basic_val.tsv"
    file.write_bytes("\ufeffSource\tTarget\r\n[MAX 3 4 ]\t4\r\n(([SM 3)])\t3\r\n\r\n".encode())
    tokens, labels = read_tsv(file, 5)
    assert [to_symbols(row) for row in tokens] == [["[MAX", "3", "4", "]"], ["[SM", "3", "]"]]
    assert labels.tolist() == [4, 3]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty; expected the header Source<TAB>Target"),
        (b"\n \n", "the file is empty; expected the header Source<TAB>Target"),
        (
            b"[MAX 3 4 ]\t4\n",
            "line 1: expected the header Source<TAB>Target, found '[MAX 3 4 ]\\t4'",
        ),
        (b"Source\tTarget\n", "expected sequences below the header, found none"),
        (
            b"Source\tTarget\n[MAX 3 4 ]\t4\n[TOP 3 ]\t3\n",
            f"line 3: expected symbols of {' '.join(SYMBOLS)}, found '[TOP'",
        ),
        (
            b"Source\tTarget\n[MAX 3 42 ]\t4\n",
            f"line 2: expected symbols of {' '.join(SYMBOLS)}, found '42'",
        ),
        (b"Source\tTarget\n[MAX 3 ]\t10\n", "line 2: expected a label from 0 to 9, found '10'"),
        (b"Source\tTarget\n[MAX 3 ]\t\n", "line 2: expected a label from 0 to 9, found ''"),
        (b"Source\tTarget\n[MAX 3 ] 3\n", "line 2: expected a sequence, a tab and a label"),
        (b"Source\tTarget\n\t3\n", "line 2: the sequence is empty"),
        (
            b"Source\tTarget\n[MAX 3 ]\t3\n[MAX \xff ]\t3\n",
            "line 3: expected text in UTF-8, found the byte 0xff",
        ),
    ],
)
def test_a_file_that_is_not_listops_is_named_with_the_line(tmp_path, content, message):
    file = tmp_path / "list.tsv"
    file.write_bytes(content)
    with pytest.raises(InputError, match=f"^{re.escape(f'{file}: {message}')}$"):
        read_tsv(file)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"none\.tsv: No such file or directory$"):
        read_tsv(tmp_path / "none.tsv")
