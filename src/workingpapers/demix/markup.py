"""Plain text from the markup of Wikipedia's pages, nearly enough for a language model."""

import html
import re

_DROPPED = re.compile(
    r"<!--.*?-->"
    r"|<(ref|math|gallery|timeline|table|imagemap|score|hiero|chem|source|pre)\b[^<>]*?"
    r"(?:/>|>.*?</\1\s*>)"
    r"|__[A-Z]+__",
    re.DOTALL | re.IGNORECASE,
)
_INNERMOST_TEMPLATE = re.compile(r"\{\{(?:[^{}]|\{(?!\{)|\}(?!\}))*\}\}")
_INNERMOST_TABLE = re.compile(r"\{\|(?:(?!\{\||\|\}).)*\|\}", re.DOTALL)
_INNERMOST_LINK = re.compile(r"\[\[([^\[\]]*)\]\]")
_NO_WORDS = re.compile(r"\s*:?(?:file|image|category|simple|[a-z]{2,3}(?:-[a-z-]+)?):", re.I)
"""What begins the target of a picture, a category, or the same page in another language."""


def plain_text(markup: str) -> str:
    """The words of a page: no templates, tables, pictures, footnotes, categories or emphasis.

    Links keep the words that a reader sees, headings stand in lines of their own.
    """
    text = _emptied(_DROPPED, markup)
    text = _emptied(_INNERMOST_TEMPLATE, text)
    text = _emptied(_INNERMOST_TABLE, text)
    text = re.sub(r"\[(?:https?:|ftp:)?//[^\s\]]*\s*([^\]]*)\]", r"\1", text)
    # From the inside out, since the captions of pictures hold links.
    while (unlinked := _INNERMOST_LINK.sub(_words_of_link, text)) != text:
        text = unlinked
    text = re.sub(r"<[^<>]{1,200}>", "", text)
    text = re.sub(r"'{2,5}", "", text)
    text = re.sub(r"^(={2,6})\s*(.*?)\s*\1[ \t]*$", r"\n\2\n", text, flags=re.MULTILINE)
    text = re.sub(r"^[*#:;]+[ \t]*", "", text, flags=re.MULTILINE)
    text = html.unescape(text).replace("\xa0", " ")
    text = re.sub(r"\([\s,;]*\)", "", text)
    text = re.sub(r"[ \t]{2,}", " ", text)
    text = re.sub(r"[ \t]+$", "", text, flags=re.MULTILINE)
    return re.sub(r"\n{3,}", "\n\n", text).strip()


def _emptied(pattern: re.Pattern[str], text: str) -> str:
    """The text without what matches, again and again until nothing does."""
    while (shorter := pattern.sub("", text)) != text:
        text = shorter
    return text


def _words_of_link(link: re.Match[str]) -> str:
    target, _, label = link[1].partition("|")
    if _NO_WORDS.match(target):
        return ""
    return label.rpartition("|")[2] or target
