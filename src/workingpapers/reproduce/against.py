"""Compare this run's findings with somebody else's, claim by claim."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from workingpapers.foundation.errors import InputError

Agreement = Literal[
    "agrees", "differs", "only here", "only there", "not comparable (scale)", "not comparable"
]

# Two means closer than this, relative to their size, are the same number.
_TOLERANCE = 1e-9
_JUDGED = ("reproduced", "not reproduced", "inconclusive")


def read_findings(path: Path) -> list[dict[str, Any]]:
    """The findings in a findings.json, or in the report folder that holds one.

    Raises InputError when there is no such file or it is not of our schema.
    """
    file = path / "findings.json" if path.is_dir() else path
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"--against {file}: no such file") from None
    except (ValueError, OSError) as error:
        raise InputError(f"--against {file}: not a findings.json ({error})") from None
    needed = {"system", "claim", "scale", "measured", "verdict", "low", "high", "timed"}
    findings = content.get("findings") if isinstance(content, dict) else None
    if not isinstance(findings, list) or content.get("schema") != 1:
        raise InputError(f'--against {file}: expected {{"schema": 1, "findings": [...]}}')
    for position, finding in enumerate(findings, start=1):
        absent = sorted(needed - set(finding)) if isinstance(finding, dict) else sorted(needed)
        if absent:
            raise InputError(f"--against {file}: finding {position} lacks {', '.join(absent)}")
    return findings


def compare(
    here: Sequence[Mapping[str, Any]], there: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """One row a claim of either side: system, claim, agreement, and both means and verdicts.

    Two measurements agree when their verdicts are the same and either the means are equal or
    their 95 % intervals meet; of a timed claim only the verdict is compared.
    """
    ours = {(finding["system"], finding["claim"]): finding for finding in here}
    theirs = {(finding["system"], finding["claim"]): finding for finding in there}
    keys = list(ours) + [key for key in theirs if key not in ours]
    rows = []
    for key in keys:
        mine, other = ours.get(key), theirs.get(key)
        rows.append(
            {
                "system": key[0],
                "claim": key[1],
                "agreement": _agreement(mine, other),
                "here": mine and mine["measured"],
                "there": other and other["measured"],
                "verdict here": mine and mine["verdict"],
                "verdict there": other and other["verdict"],
            }
        )
    return rows


def _agreement(here: Mapping[str, Any] | None, there: Mapping[str, Any] | None) -> Agreement:
    if there is None:
        return "only here"
    if here is None:
        return "only there"
    if here["scale"] != there["scale"]:
        return "not comparable (scale)"
    if here["measured"] is None or there["measured"] is None:
        return "not comparable"
    if here["verdict"] != there["verdict"]:
        return "differs"
    if here["timed"] and here["verdict"] in _JUDGED:
        return "agrees"
    mine, other = here["measured"], there["measured"]
    if abs(mine - other) <= _TOLERANCE * max(1.0, abs(mine), abs(other)):
        return "agrees"
    bounds = [here["low"], here["high"], there["low"], there["high"]]
    if None in bounds:
        return "differs"
    meet = here["low"] <= there["high"] and there["low"] <= here["high"]
    return "agrees" if meet else "differs"
