"""Write the page on the library of institutions, and draw a picture of each.

    python tools/draw_opengames_library.py            # page and pictures
    python tools/draw_opengames_library.py --no-draw  # the page alone

Everything on the page comes from the registry in workingpapers.opengames.library. Pictures are
small PNG files of few colours; games that would be too large for a page are drawn with fewer
players, which the page says.
"""

import argparse
import inspect
import io
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from workingpapers.foundation.console import write_atomically
from workingpapers.opengames import draw, library
from workingpapers.opengames.library import Entry, Known, OnlyEquilibria
from workingpapers.opengames.spaces import show

DOCS = Path(__file__).parents[1] / "docs"
FOLDER = DOCS / "opengames-library"

KINDS = {
    "commons": "Commons",
    "social": "Two players, and devices that help them",
    "bargaining": "Bargaining and contracts",
    "voting": "Institutions that choose institutions",
    "information": "Information",
    "auctions": "Auctions",
    "ledger": "Ledgers",
}
TITLES = {
    "diagram": "String diagram",
    "tree": "Game tree",
    "phase": "Best responses and replicator dynamics",
}
PICTURES: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "irrigation_restitution": ("diagram", {"farmers": 2}),
    "irrigation_plot_monitor": ("diagram", {"farmers": 2, "plot": 2}),
    "irrigation_rotating_monitor": ("diagram", {"farmers": 2}),
    "common_pool": ("diagram", {"users": 3}),
    "public_goods": ("diagram", {"players": 3}),
    "volunteers_dilemma": ("diagram", {"players": 3}),
    "prisoners_dilemma": ("phase", {}),
    "meeting_in_new_york": ("phase", {}),
    "matching_pennies": ("phase", {}),
    "stag_hunt": ("phase", {}),
    "chicken": ("phase", {}),
    "ultimatum": ("tree", {"pie": 3}),
    "trust": ("tree", {"pie": 3}),
    "centipede": ("tree", {}),
    "seltens_horse": ("tree", {}),
    "signal_coordination": ("tree", {}),
    "bayesian_prisoners_dilemma": ("tree", {}),
    "lemons": ("tree", {}),
    "job_signalling": ("tree", {}),
    "all_pay_auction": ("diagram", {"bidders": 2}),
    "relay_auction": ("diagram", {"relays": 2, "builders": 1}),
}
"""Entries whose picture is not the string diagram with the factory's own parameters."""

WIDEST = 60_000
_DOTS_PER_INCH = 110
_COLOURS = 48


def picture(entry: Entry) -> bytes:
    """The entry's picture as PNG with few colours."""
    from PIL import Image

    kind, params = PICTURES.get(entry.name, ("diagram", {}))
    figure = getattr(draw, kind)(entry.game(**params))
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", dpi=_DOTS_PER_INCH, metadata={"Software": None})
    flat = Image.open(drawn).convert("RGB").quantize(_COLOURS, dither=Image.Dither.NONE)
    packed = io.BytesIO()
    flat.save(packed, format="png", optimize=True)
    return packed.getvalue()


def page() -> str:
    """The page's text."""
    parts = [
        "# Library of institutions",
        f"{len(library.names())} games with known answers: the worked case of the paper, the games "
        "of its official code and of textbooks. "
        "Each has a name for [`workingpapers opengames`](opengames.md), profiles of strategies to "
        "check, and answers that are known from a closed form, from the literature, or from the "
        "open-games engine. `show NAME --facts` measures them again:",
        "```console\n$ workingpapers opengames show stag_hunt --facts\n...\n"
        "found: stag_hunt, stag: equilibrium (agent) is True, known True\n...\n```",
        "This page and its pictures are made by `python tools/draw_opengames_library.py`.",
    ]
    kind = ""
    for name in library.names():
        entry = library.load(name)
        module = str(entry.factory.__module__).rsplit(".", 1)[-1]
        if module != kind:
            kind = module
            parts.append(f"## {KINDS[kind]}")
        parts += section(entry)
    return "\n\n".join(wrapped(part) for part in parts) + "\n"


def wrapped(part: str) -> str:
    if part.startswith(("#", "|", "!", "```")):
        return part
    return textwrap.fill(part, 100, break_long_words=False, break_on_hyphens=False)


def section(entry: Entry) -> list[str]:
    """The paragraphs on one entry."""
    kind, params = PICTURES.get(entry.name, ("diagram", {}))
    drawn = f" with {settings(params)}" if params else ""
    own = {name: value for name, value in entry.factory.params.items() if value is not None}
    parts = [
        f"### {entry.name}",
        f"{entry.summary.rstrip('.')}. *{entry.source}.*",
        f"![{TITLES[kind]} of {entry.name}{drawn}](opengames-library/{entry.name}.png)",
    ]
    if drawn:
        parts.append(f"(Drawn{drawn}.)")
    about = inspect.getdoc(entry.factory) or ""
    _, _, more = about.partition("\n\n")
    if more:
        parts.append(" ".join(more.split()))
    parts.append(f"Parameters: {settings(own)}." if own else "It has no parameters.")
    rows = [row for known in entry.known for row in known_rows(known)]
    if rows:
        header = "| profile | is | with | known from |\n|---|---|---|---|"
        parts.append("\n".join([header, *dict.fromkeys(rows)]))
    parts += [only(one, "constant") for one in entry.constant_equilibria]
    parts += [only(one, "pure") for one in entry.pure_equilibria]
    first = next(iter(entry.profiles))
    parts.append(
        f"Run it: `workingpapers opengames check {entry.name} --strategy {quoted(first)}`"
        + (f", and with {listed(list(entry.profiles)[1:])}." if len(entry.profiles) > 1 else ".")
    )
    return parts


def known_rows(known: Known) -> list[str]:
    found = []
    if known.equilibrium is not None:
        within = f", to {known.eps:g}" if known.eps else ""
        verdict = "an equilibrium" if known.equilibrium else "not an equilibrium"
        found.append(f"{verdict} ({known.notion} form{within})")
    if known.payoffs:
        paid = [f"{player} {show(float(value))}" for player, value in known.payoffs.items()]
        found.append("paid " + ", ".join(paid[:4]) + (", ..." if len(paid) > 4 else ""))
    at = settings(known.params) if known.params else "defaults"
    return [
        f"| {known.profile} | {'; '.join(found) or 'measured in part'} | {at} | {known.source} |"
    ]


def only(one: OnlyEquilibria, kind: str) -> str:
    varied = "strategies that take one action whatever is seen"
    if kind == "pure":
        varied = "all pure strategies"
    if one.fixed:
        varied += f", where {', '.join(one.fixed)} {'is' if len(one.fixed) == 1 else 'are'} given"
    at = f" with {settings(one.params)}" if one.params else ""
    profiles = ["; ".join(f"{name} {moves(move)}" for name, move in profile.items())
                for profile in one.profiles]  # fmt: skip
    shown = "none is an equilibrium"
    if profiles:
        shown = "the equilibria are " + " — or — ".join(profiles[:4])
        shown = (
            shown.replace("the equilibria are", "the equilibrium is")
            if len(profiles) == 1
            else shown
        )
        shown += f" — and {len(profiles) - 4} more" if len(profiles) > 4 else ""
    return f"Among {varied}{at}, {shown} ({one.notion} form; {one.source})."


def moves(move: Any) -> str:
    if isinstance(move, Mapping):
        return "(" + ", ".join(f"{show(key)}: {moves(part)}" for key, part in move.items()) + ")"
    return "by a rule" if callable(move) else show(move)


def settings(params: Mapping[str, Any]) -> str:
    return ", ".join(
        f"`{name}={show(value) if isinstance(value, float) else value}`"
        for name, value in params.items()
    )


def quoted(name: str) -> str:
    return name if name.isidentifier() else f"'{name}'"


def listed(names: list[str]) -> str:
    shown = [f"`{quoted(name)}`" for name in names]
    return shown[0] if len(shown) == 1 else ", ".join(shown[:-1]) + f" or {shown[-1]}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--no-draw", action="store_true", help="write the page alone")
    arguments = parser.parse_args()
    write_atomically(DOCS / "opengames-library.md", page())
    if arguments.no_draw:
        return
    FOLDER.mkdir(exist_ok=True)
    total = 0
    for name in library.names():
        content = picture(library.load(name))
        if len(content) > WIDEST:
            raise SystemExit(f"{name}: {len(content)} bytes; draw it with fewer players")
        write_atomically(FOLDER / f"{name}.png", content)
        total += len(content)
    print(f"{len(library.names())} pictures, {total:,} bytes")


if __name__ == "__main__":
    main()
