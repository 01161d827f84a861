"""One clear line for each kind of bad input, exit code 2, and nothing written or overwritten."""

import json
import shutil
from pathlib import Path

import pytest
from tests.demix.conftest import write_texts

TINY = ("--vocabulary", "300", "--length", "16", "--dim", "16", "--layers", "1", "--heads", "2")


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """Two models, "one" and "other", with three domains and random weights."""
    import torch

    from workingpapers.demix.checkpoint import save_model
    from workingpapers.demix.corpora import load_domains
    from workingpapers.demix.model import DEMixLM, LMConfig

    folder = tmp_path_factory.mktemp("made")
    texts = write_texts(folder / "texts", documents=12)
    corpora = load_domains(str(texts), vocabulary=300, block=16)
    config = LMConfig(corpora.tokenizer.get_vocab_size(), 16, 16, 1, 2)
    for seed, name in enumerate(("one", "other")):
        torch.manual_seed(seed)
        save_model(folder / name, DEMixLM(config, list(corpora.domains)), corpora.tokenizer)
    return folder


@pytest.fixture
def refused(command, made, tmp_path):
    """Run a command beside copies of texts and models; its one line, when nothing has changed."""
    for name in ("one", "other", "texts"):
        shutil.copytree(made / name, tmp_path / name)

    def run(*arguments: object) -> str:
        before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
        code, stdout, stderr = command(*arguments)
        assert (code, stdout) == (2, ""), stderr
        (line,) = stderr.splitlines()
        after = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
        # Tokens of texts may have been kept, for the next try.
        new = {path for path in after if path not in before and "corpora" not in path.parts}
        assert (new, {path: after[path] for path in before}) == (set(), before)
        return line.removeprefix("error: ")

    return run


def train(*arguments: object, shape: tuple[str, ...] = TINY) -> tuple[object, ...]:
    return ("train", *shape, "--out", "run", "--steps", "2", "--device", "cpu", *arguments)


# ---- texts


def test_a_domain_with_fewer_tokens_than_a_block(refused, tmp_path):
    shutil.rmtree(tmp_path / "texts" / "sea")
    (tmp_path / "texts" / "sea.txt").write_text("the ship\n\nthe sea\n\nthe sail")
    line = refused(*train("texts"))
    assert line.startswith(f"{tmp_path}/texts/sea.txt: domain 'sea' has ")
    assert line.endswith(
        " in its part 'dev', expected at least 17, a block and the token before it"
    )


def test_an_empty_file(refused, tmp_path):
    (tmp_path / "texts" / "sea" / "07.txt").write_text(" \n")
    assert refused(*train("texts")) == (f"{tmp_path}/texts/sea/07.txt: the text is empty")
    (tmp_path / "empty.jsonl").write_text("")
    assert refused(*train("empty.jsonl")) == (f"{tmp_path}/empty.jsonl: the file has no documents")
    (tmp_path / "empty.txt").write_text("")
    for verb in (("posterior", "one", "empty.txt"), ("evaluate", "one", "empty.txt"),
                 ("merge", "one", "new", "--like", "empty.txt"),
                 ("compare", "one", "other", "empty.txt"),
                 ("add", "one", "new", "empty.txt", "--in-place")):  # fmt: skip
        assert refused(*verb) == "empty.txt: the text is empty"


def test_text_that_is_not_utf8(refused, tmp_path):
    (tmp_path / "texts" / "law" / "03.txt").write_bytes(b"the court\nthe \xe9clair")
    expected = "line 2: expected text in UTF-8, found the byte 0xe9; save the file as UTF-8"
    assert refused(*train("texts")) == f"{tmp_path}/texts/law/03.txt: {expected}"
    (tmp_path / "latin.txt").write_bytes(b"the court\nthe \xe9clair")
    assert refused("posterior", "one", "latin.txt") == f"latin.txt: {expected}"
    assert refused("add", "one", "new", "latin.txt", "--out", "grown") == f"latin.txt: {expected}"


def test_two_domains_of_one_name(refused, tmp_path):
    (tmp_path / "texts" / "sea.jsonl").write_text('{"text": "the ship"}\n')
    assert refused(*train("texts")) == (
        f"{tmp_path}/texts/sea.jsonl: domain 'sea': there is one of this name"
    )
    assert refused("add", "one", "Sea", "--in-place") == "domain 'Sea': there is one of this name"
    assert refused("rename", "one", "law", "sea", "--in-place") == (
        "domain 'sea': there is one of this name"
    )


def test_names_that_no_domain_may_have(refused):
    rule = "expected at most 64 letters, digits and _.-, not beginning with . or -"
    assert refused("add", "one", "../up", "--in-place") == f"domain '../up': {rule}"
    assert refused("rename", "one", "law", "a b", "--in-place") == f"domain 'a b': {rule}"


def test_texts_that_are_not_there(refused, tmp_path):
    assert refused(*train("texts", "--domains", "sea,news")) == (
        f"{tmp_path}/texts: has no domain 'news', only farm, law, sea"
    )
    none = "no such file or folder"
    for verb in (train("nowhere"), train("wiki", "nowhere")):
        line = refused(*verb)
        assert line.startswith(f"nowhere: {none}, and no embedded domain; those are pycode, cxx, ")
    assert refused("evaluate", "one", "nowhere") == "nowhere: no such file or folder"
    assert refused("evaluate", "one") == (
        "DATA: expected texts, since one is not in the folder of a run"
    )


# ---- experts and models


def test_an_expert_of_another_model(refused):
    file = "other/experts/sea.safetensors"
    line = refused("add", "one", "new", "--file", file, "--in-place")
    assert line == (
        f"{file}: an expert of another model, trained with other shared weights than "
        "one/shared.safetensors"
    )


def test_a_truncated_file_of_an_expert(refused, tmp_path):
    file = tmp_path / "one" / "experts" / "sea.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    name = "one/experts/sea.safetensors"
    cut = f"{name}: cut off or changed, its SHA-256 is not the one in demix.json"
    for verb in (("posterior", "one", "the ship"), ("generate", "one"),
                 ("evaluate", "one", "texts"), ("compare", "one", "other", "texts"),
                 ("merge", "one", "new", "--weights", "sea=1"),
                 ("export", "one", "new", "--weights", "sea=1"),
                 ("add", "one", "new", "--in-place")):  # fmt: skip
        assert refused(*verb) == cut
    assert name in refused("add", "other", "new", "--file", name, "--in-place")
    assert name in refused("list", "one")


def test_a_folder_that_is_no_model(refused, tmp_path):
    (tmp_path / "notes").mkdir()
    for path, found in (("notes", "none"), ("gone", "nothing"), ("one/demix.json", "a file")):
        expected = f"{path}: expected the folder of a model, with its demix.json, found {found}"
        for verb in (("list", path), ("posterior", path, "a"), ("compare", path, "texts"),
                     ("remove", path, "sea", "--in-place"), ("export", path, "new")):  # fmt: skip
            assert refused(*verb) == expected


def test_a_folder_that_is_no_decoder(refused, tmp_path):
    assert refused(*train("texts", "--from", "texts", shape=())) == (
        "texts: expected the folder of a decoder, found no config.json"
    )
    (tmp_path / "bert").mkdir()
    config = tmp_path / "bert" / "config.json"
    config.write_text("[]")
    assert refused(*train("texts", "--from", "bert", shape=())) == (
        "bert/config.json: expected the config of a decoder"
    )
    config.write_text(json.dumps({"model_type": "bert"}))
    assert refused("compare", "bert", "texts") == (
        "bert: config.json: expected a decoder of type gpt2, gpt_neox, gpt_neo or llama, "
        "found 'bert'"
    )
    assert refused(*train("texts", "--from", "one", "--size", "small", "--dim", "8")) == (
        "--vocabulary: expected without a decoder, which has its own"
    )


def test_unknown_experts_are_told_the_known_ones(refused):
    known = "domain 'news': expected one of farm, law, sea"
    for verb in (("remove", "one", "news", "--in-place"),
                 ("rename", "one", "news", "new", "--in-place"),
                 ("restrict", "one", "sea", "news", "--out", "new"),
                 ):  # fmt: skip
        assert refused(*verb) == known
    for verb, option in ((("generate", "one", "--mix", "news=1"),
                          "--mix news: expected uniform, updating, cached, average, or "),
                         (("posterior", "one", "a", "--only", "sea,news"),
                          "--only news: expected "),
                         (("merge", "one", "new", "--weights", "news=1"),
                          "--weights news: expected ")):  # fmt: skip
        assert refused(*verb) == f"{option}one of farm, law, sea"
    assert refused("restrict", "one", "sea", "sea", "--out", "new") == (
        "experts ['sea', 'sea']: expected one or more, each once"
    )


def test_the_last_expert_stays(refused, command):
    assert command("restrict", "one", "sea", "--in-place")[0] == 0
    assert refused("remove", "one", "sea", "--in-place") == (
        "experts: expected at least one to be left"
    )


# ---- options


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("train", "texts"), "--out: expected a folder for the run (or --resume RUN)"),
        (train("texts", "--minutes", "1"), "--minutes: expected without --steps"),
        (("train", "--minutes", "nan", "--dry-run"), "--minutes nan: expected a number above 0"),
        (train("texts", "--experts", "some"), "--experts some: expected ffn, all, none"),
        (train("texts", "--strategy", "x"), "--strategy x: expected auto, ddp, fsdp"),
        (train("texts", "--engine", "x"), "--engine x: expected local or ray"),
        (train("texts", "--size", "huge"),
         "--size 'huge': expected one of tiny, small, 125M, 350M, 760M, 1.3B"),
        (train("texts", "--heads", "3"), "--heads 3: expected a divisor of dim 16"),
        (train("texts", "--domain-tokens"), "--domain-tokens: expected with experts none only"),
        (("train", "--resume", "one"),
         "one: expected the folder of a run, with its run.json, found none"),
        (train("texts", "--discover", "2", "--dry-run"),
         "--dry-run: expected without --discover; `demix discover` goes before it"),
        (("remove", "one", "sea"), "--out, --in-place: expected one of them"),
        (("remove", "one", "sea", "--out", "other"),
         "--out other: the folder is not empty; --force replaces a model"),
        (("add", "one", "new", "--file", "a", "--init", "mean", "--in-place"),
         "--file: expected without DATA and --init"),
        (("add", "one", "new", "--init", "nearest", "--in-place"),
         "--init nearest: expected DATA, by which it is found"),
        (("add", "one", "new", "--init", "news", "--in-place"),
         "--init 'news': expected mean, random or farm, law, sea"),
        (("generate", "one", "--mix", "sea=x"), "--mix sea=x: expected NAME=NUMBER, of at least 0"),
        (("generate", "one", "--mix", "sea=1,sea=2"), "--mix sea=1,sea=2: expected sea once"),
        (("generate", "one", "--mix", "sea,"), "--mix sea,: expected names with commas between "
         "them"),
        (("generate", "one", "--mix", "sea", "--only", "law"),
         "--only: expected without names of experts in --mix"),
        (("generate", "one", "--history", "all"), "--history all: expected token, prefix, filter"),
        (("generate", "one", "--top-p", "0"), "--top-p 0.0: expected more than 0 and at most 1"),
        (("generate", "one", "--top-k", "4"), "--top-k 4: expected from 1 to 3"),
        (("generate", "one", "--stop", ""), "--stop: expected at least one character"),
        (("posterior", "one", "a", "--stride", "17"), "--stride 17: expected from 1 to 16"),
        (("posterior", "one", " "), "TEXT|FILE: the text is empty"),
        (("posterior", "one", "a", "--picture", "p.gif"),
         "--picture p.gif: expected a name that ends in .svg, .png or .pdf"),
        (("evaluate", "one", "texts", "--split", "all"), "--split all: expected train, dev, test"),
        (("merge", "one", "new", "--weights", "sea=1", "--like", "texts/sea/00.txt"),
         "--weights, --like: expected one of them"),
        (("merge", "one", "new", "--weights", "sea=0"),
         "--weights sea=0: expected weights of a sum above 0 and not infinite"),
        (("export", "one", "other", "--weights", "sea=1"), "other: expected a new or empty folder"),
        (("discover", "texts", "-k", "100", "--out", "new"),
         "texts: expected at least 200 for 100 clusters, got 36"),
    ],
)  # fmt: skip
def test_options_that_cannot_be(refused, arguments, expected):
    assert refused(*arguments) == expected


def test_a_model_is_not_replaced_by_what_is_made_of_it(refused) -> None:
    wanted = "one: is the model itself, which would be lost; expected another folder"
    assert refused("merge", "one", "one", "--weights", "court=1", "--force") == f"OUT {wanted}"
    assert refused("rename", "one", "court", "law", "--out", "one", "--force") == f"--out {wanted}"


def test_a_text_that_looks_like_a_path_is_one(refused, command) -> None:
    assert refused("posterior", "one", "gone.txt") == "gone.txt: no such file"
    assert refused("posterior", "one", "texts/gone") == "texts/gone: no such file"
    assert refused("posterior", "one", "/no/such") == "/no/such: no such file"
    assert refused("posterior", "one", "texts") == (
        "texts: expected a text or a file of text, found a folder"
    )
    for text in ("the sea/the ship", "and/or", "..."):
        assert command("posterior", "one", text)[0] == 0


def test_what_no_rule_would_read_is_refused(refused) -> None:
    like = ("--like", "texts/sea/00.txt")
    for verb in (("posterior", "one", "a"), ("generate", "one"), ("evaluate", "one", "texts")):
        line = refused(*verb, *like, "--mix", "uniform")
        assert line == "--like texts/sea/00.txt: expected with --mix cached, this is uniform"
    wanted = "--like gone: no such file, and no posterior kept by `posterior --keep` (kept: none)"
    assert refused("generate", "one", "--mix", "cached", "--like", "gone") == wanted
    assert refused("merge", "one", "new", "--like", "gone") == wanted


def test_a_dense_model_has_nothing_to_be_merged(refused, command, tmp_path) -> None:
    assert command("merge", "one", "dense", "--weights", "sea")[0] == 0
    assert refused("merge", "dense", "new", "--weights", "sea") == (
        "dense: expected a model with experts, this one is dense"
    )
    assert refused("export", "dense", "new", "--like", "texts/sea/00.txt") == (
        "--weights, --like: expected neither, dense is dense"
    )


def test_domains_are_found_into_a_folder_of_their_own(refused, tmp_path) -> None:
    for out in ("texts", "texts/sea", "."):
        assert refused("discover", "texts", "-k", "2", "--out", out, "--force") == (
            f"--out {out}: expected a folder apart from texts"
        )
    assert refused("discover", "texts", "-k", "2", "--out", "one", "--force") == (
        "--out one: holds README.md, which is not from `discover`"
    )


def test_models_that_held_out_other_parts_are_not_compared(refused, command, tmp_path) -> None:
    for name, more in (("a", ()), ("b", ("--keep-duplicates",))):
        arguments = ("texts", "--out", name, "--steps", "2", "--device", "cpu", *TINY, *more)
        assert command("train", *arguments)[0] == 0
    assert command("compare", "a", "a/model", "texts")[0] == 0
    assert refused("compare", "a", "b", "texts") == (
        "b: trained on other parts of texts than a (deduplicate False and True); expected models "
        "that held out the same texts"
    )


def test_tokens_that_were_damaged(refused, command, tmp_path) -> None:
    assert command(*train("texts"))[0] == 0
    (kept,) = (tmp_path / "run" / "corpora").iterdir()
    for name, damage in (
        ("sea/test.npy", b"nothing"),
        ("corpora.json", b"{}x"),
        ("corpora.json", b'{"a": 1}'),
    ):
        whole = (kept / name).read_bytes()
        (kept / name).write_bytes(damage)
        line = refused("evaluate", "run")
        assert line.startswith(f"run/corpora/{kept.name}: the tokens kept there are damaged (")
        (kept / name).write_bytes(whole)
    (kept / "sea" / "test.npy").write_bytes((kept / "sea" / "test.npy").read_bytes()[:150])
    assert "the tokens kept there are damaged" in refused("evaluate", "run")


def test_a_run_is_not_written_where_its_input_is(refused, command, tmp_path) -> None:
    assert command(*train("texts"))[0] == 0
    tokenizer = "run/model/tokenizer.json"
    assert refused(*train("texts", "--force", "--tokenizer", tokenizer)) == (
        f"--out run: expected a folder apart from --tokenizer {tokenizer}"
    )
    assert refused("train", "texts", "--out", "texts/run") == (
        "--out texts/run: expected a folder apart from DATA texts"
    )


def test_files_that_are_called_like_options(refused, tmp_path) -> None:
    (tmp_path / "seed").mkdir()
    assert refused("add", "one", "new", "seed", "--seed", "3", "--out", "x") == (
        "seed: expected .txt files in it or in its sub folders, found none"
    )


def test_fields_that_were_asked_for_are_read(refused, command, tmp_path) -> None:
    rows = [json.dumps({"text": f"the {word} of the sea {number}", "domain": word})
            for word in ("ship", "crew") for number in range(200)]  # fmt: skip
    (tmp_path / "rows.jsonl").write_text("\n".join(rows))
    assert command(*train("rows.jsonl"))[0] == 0
    assert refused("evaluate", "run", "rows.jsonl", "--text", "words").endswith(
        "rows.jsonl: line 1: no column 'words'; it has text, domain"
    )
