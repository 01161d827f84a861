"""From a trained network to formulas: class level, one row, the paper's own way, and trimming."""

import time
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal, get_args

import numpy as np
import torch
from jaxtyping import Bool, Float, Int

from workingpapers.foundation.errors import InputError
from workingpapers.lens import metrics
from workingpapers.lens.concepts import Group, valid_patterns
from workingpapers.lens.formula import Formula
from workingpapers.lens.minimization import Cover, Method, minimize
from workingpapers.lens.nets import LogicNet, PsiNet

Guarantee = Literal["observed", "valid", "all"]
Style = Literal["iff", "if", "only_if"]
Level = Literal["head", "argmax"]

GUARANTEES: tuple[Guarantee, ...] = get_args(Guarantee)
STYLES: tuple[Style, ...] = get_args(Style)
ARROWS: dict[str, Literal["<->", "<-", "->"]] = {"iff": "<->", "if": "<-", "only_if": "->"}

# A truth table of more rows than this is refused.
TABLE_LIMIT = 2**20


@dataclass(frozen=True)
class Patterns:
    """The distinct Boolean rows a model has seen, with how often and in which classes.

    `concepts` is restricted to the concepts the network kept. `training` and `validation` count,
    for each class, the rows in it that have the pattern; `totals` counts the rows of both parts,
    training first.
    """

    concepts: Bool[np.ndarray, "patterns concepts"]
    training: Int[np.ndarray, "patterns classes"]
    validation: Int[np.ndarray, "patterns classes"]
    totals: Int[np.ndarray, "patterns 2"]

    @classmethod
    def count(
        cls,
        concepts: Bool[np.ndarray, "rows concepts"],
        members: Bool[np.ndarray, "rows classes"],
        held: Bool[np.ndarray, " rows"],
    ) -> "Patterns":
        """Merge equal rows; `members` says which classes a row is in, `held` marks validation."""
        distinct, inverse = np.unique(concepts, axis=0, return_inverse=True)
        inverse = inverse.reshape(-1)
        counts = np.zeros((2, len(distinct), members.shape[1]), dtype=np.int64)
        np.add.at(counts, (held.astype(int), inverse), members)
        totals = np.zeros((len(distinct), 2), dtype=np.int64)
        np.add.at(totals, (inverse, held.astype(int)), 1)
        return cls(distinct, counts[0], counts[1], totals)

    def membership(self, index: int) -> tuple[Int[np.ndarray, " patterns"], ...]:
        """Validation rows (training rows where none are held out) in and out of a class."""
        part = int(self.totals[:, 1].any())
        inside = (self.training, self.validation)[part][:, index]
        return inside, self.totals[:, part] - inside


@dataclass(frozen=True)
class ClassFunction:
    """The network's decision for one class, as a Boolean function of the concepts it kept."""

    relevant: Int[np.ndarray, " m"]
    """Columns of the concepts the decision depends on, ascending."""
    margin: Callable[[Bool[np.ndarray, "rows m"]], Float[np.ndarray, " rows"]]
    """How sure the network is of the class, in logits; above 0 where it predicts it."""
    threshold: float = 0.0
    """The class holds where the margin is above this ..."""
    inclusive: bool = False
    """... or equal to it, so that of two classes exactly one holds at a margin of 0."""

    def decide(self, patterns: Bool[np.ndarray, "rows m"]) -> Bool[np.ndarray, " rows"]:
        """Whether the class holds for each pattern."""
        margin = self.margin(patterns)
        return margin >= self.threshold if self.inclusive else margin > self.threshold

    def complement(self) -> "ClassFunction":
        """The function that is true exactly where this one is false."""
        return ClassFunction(
            self.relevant,
            lambda patterns: -self.margin(patterns),
            -self.threshold,
            not self.inclusive,
        )


@dataclass(frozen=True)
class Certificate:
    """How a formula was made, and how far it may be from the shortest one."""

    method: str
    lower_bound: float
    """No DNF with the same values on the domain has fewer literals; nan where not known."""
    gap: float
    """(literals - lower bound) / literals; 0 proves the formula minimum, nan: not known."""
    seconds: float
    domain_rows: int
    """Patterns of the domain on which formula and network were compared."""
    counter_examples: int = 0
    """Patterns of the domain on which they differ; 0 unless the formula was trimmed."""

    @property
    def shortness(self) -> Literal["minimum", "irredundant", "trimmed", "not shortened"]:
        """How short the formula is known to be; minimum is said only when the gap is 0."""
        if self.method == "paper":
            return "not shortened"
        if self.counter_examples:
            return "trimmed"
        return "minimum" if self.gap == 0 else "irredundant"


@dataclass(frozen=True)
class Explanation:
    """One formula a class, what it is guaranteed to equal, and how it was made."""

    formulas: Mapping[Any, Formula]
    guarantee: Guarantee
    certificates: Mapping[Any, Certificate]
    style: Style = "iff"
    scores: Mapping[str, float] = field(default_factory=dict)
    """accuracy, fidelity: on the model's validation rows (its training rows if it has none)."""
    fronts: Mapping[Any, Callable[[], "Front"]] = field(default_factory=dict, repr=False)
    """What makes each class's front; it takes a while, and is asked for only where it is used."""

    @property
    def accuracy(self) -> float:
        """One-versus-rest accuracy of the formulas on validation rows, mean over classes."""
        return self.scores["accuracy"]

    @property
    def fidelity(self) -> float:
        """Macro F1 of the formulas against the network's predictions on validation rows."""
        return self.scores["fidelity"]

    @property
    def literals(self) -> float:
        """Mean number of literals a class."""
        return metrics.complexity(self.formulas)

    @property
    def terms(self) -> float:
        """Mean number of terms a class."""
        return float(np.mean([formula.n_terms for formula in self.formulas.values()]))

    @property
    def seconds(self) -> float:
        """Seconds spent on extraction, all classes."""
        return sum(certificate.seconds for certificate in self.certificates.values())

    def front(self, target: Any) -> list[dict[str, Any]]:
        """The trade-off of accuracy and length for one class; see Front."""
        return self.fronts[target]().points

    def label(self, target: Any) -> str:
        """What the formula of a class is: its guarantee, and how short it is known to be."""
        certificate = self.certificates[target]
        guarantee = "no guarantee" if certificate.method == "paper" else self.guarantee
        return f"{guarantee}, {certificate.shortness}"

    def text(self, target: Any) -> str:
        """The formula of a class with its arrow and guarantee, as a line of first-order logic."""
        return self.formulas[target].to_text(
            head=str(target), guarantee=self.label(target), arrow=ARROWS[self.style]
        )

    def table(self) -> list[dict[str, Any]]:
        """One row a class: formula, guarantee, shortness, literals, terms, seconds."""
        return [
            {
                "class": target,
                "formula": self.text(target),
                "guarantee": self.guarantee,
                "shortness": self.certificates[target].shortness,
                "literals": formula.n_literals,
                "terms": formula.n_terms,
                "seconds": self.certificates[target].seconds,
            }
            for target, formula in self.formulas.items()
        ]

    def __str__(self) -> str:
        return "\n".join(self.text(target) for target in self.formulas)


def class_functions(net: LogicNet, n_classes: int, level: Level) -> list[ClassFunction]:
    """The Boolean function of each class.

    A network with one head and two classes gives that head and its complement. With a head a
    class, level "head" says that the head fires and "argmax" that its logit is the largest,
    which depends on the union of what the heads kept.
    """
    mask = net.mask.cpu().numpy()
    if len(mask) == 1 and n_classes == 2:
        relevant = np.flatnonzero(mask[0])

        fires = _head_function(net, 0, relevant)
        return [fires.complement(), fires]
    if level == "head":
        return [_head_function(net, head, np.flatnonzero(mask[head])) for head in range(n_classes)]
    union = np.flatnonzero(mask.any(axis=0))
    return [_argmax_function(net, head, union) for head in range(n_classes)]


def _head_function(net: LogicNet, head: int, relevant: Int[np.ndarray, " m"]) -> ClassFunction:
    return ClassFunction(relevant, lambda patterns: head_margin(net, head, patterns))


def _argmax_function(net: LogicNet, head: int, union: Int[np.ndarray, " m"]) -> ClassFunction:
    def lead(patterns: Bool[np.ndarray, "rows m"]) -> Float[np.ndarray, " rows"]:
        logits = all_logits(net, union, patterns)
        others = np.delete(logits, head, axis=1)
        # Of equal logits the first wins, as argmax has it: a lead of nothing is one for it.
        lead = logits[:, head] - others.max(axis=1)
        tied = (lead == 0) & (logits.argmax(axis=1) == head)
        return np.where(tied, np.finfo(lead.dtype).tiny, lead)

    return ClassFunction(union, lead)


@torch.no_grad()
def head_margin(
    net: LogicNet, head: int, patterns: Bool[np.ndarray, "rows m"]
) -> Float[np.ndarray, " rows"]:
    """One head's logit on patterns over the concepts it kept."""
    return net.head_on_relevant(head, torch.from_numpy(patterns)).cpu().numpy()


@torch.no_grad()
def all_logits(
    net: LogicNet,
    columns: Int[np.ndarray, " m"],
    patterns: Bool[np.ndarray, "rows m"] | Float[np.ndarray, "rows m"],
) -> Float[np.ndarray, "rows heads"]:
    """Every head's logit on patterns over some columns; other concepts are false.

    In double precision, so that a row's logit does not depend on the rows beside it.
    """
    net = deepcopy(net).double()
    dtype, device = next(net.parameters()).dtype, next(net.parameters()).device
    logits = []
    for start in range(0, len(patterns), 65536):
        chunk = patterns[start : start + 65536]
        concepts = torch.zeros((len(chunk), net.mask.shape[1]), dtype=dtype, device=device)
        concepts[:, torch.from_numpy(columns)] = torch.from_numpy(chunk).to(device, dtype)
        logits.append(net(concepts).cpu().numpy())
    return np.concatenate(logits) if logits else np.zeros((0, len(net.mask)))


def domain_of(
    guarantee: Guarantee,
    function: ClassFunction,
    observed: Bool[np.ndarray, "patterns concepts"],
    groups: Sequence[Group],
) -> Bool[np.ndarray, "rows m"]:
    """The distinct patterns over a function's concepts on which its formula must be right.

    Raises InputError when that is more than 2^20 patterns, saying which guarantee fits.
    """
    relevant = function.relevant
    if guarantee == "observed":
        return np.unique(observed[:, relevant], axis=0)
    width = len(relevant)
    if guarantee == "all":
        if 2**width > TABLE_LIMIT:
            raise InputError(
                f"guarantee all: the decision depends on {width} concepts, a table of 2^{width} "
                "rows; at most 20 fit: use guarantee observed, or fit with max_concepts=20 or less"
            )
        return truth_table_rows(width)
    return valid_patterns(observed.shape[1], groups, relevant.tolist(), limit=TABLE_LIMIT)


def truth_table_rows(width: int) -> Bool[np.ndarray, "rows width"]:
    """All 2^width assignments; bit j of the row number is the value of variable j."""
    numbers = np.arange(2**width, dtype=np.uint32)
    return (numbers[:, None] >> np.arange(width, dtype=np.uint32)) & 1 == 1


def explain_function(
    function: ClassFunction,
    guarantee: Guarantee,
    names: Sequence[str],
    observed: Bool[np.ndarray, "patterns concepts"],
    groups: Sequence[Group],
    *,
    method: Method = "auto",
) -> tuple[Formula, Certificate]:
    """The shortest formula found that equals a class function on the guarantee's domain.

    The network is evaluated on the whole domain; patterns outside it are don't-cares of the
    two-level minimiser. The formula is then compared with the network on every row of the domain.
    """
    began = time.perf_counter()
    domain = domain_of(guarantee, function, observed, groups)
    values = function.decide(domain)
    if guarantee == "all":
        # The rows of a whole table stand in the order of their numbers.
        cover = minimize(values, method=method)
    else:
        cover = minimize(domain[values], domain[~values], method=method)
    formula = lift(cover, function.relevant, names)
    wrong = int((cover(domain) != values).sum())
    if wrong:
        raise AssertionError(f"the minimiser's formula differs from the network on {wrong} rows")
    certificate = Certificate(
        method=cover.method,
        lower_bound=cover.lower_bound,
        gap=cover.gap,
        seconds=time.perf_counter() - began,
        domain_rows=len(domain),
    )
    return formula, certificate


def lift(cover: Cover, relevant: Int[np.ndarray, " m"], names: Sequence[str]) -> Formula:
    """A cover over a function's own variables as a formula over all concepts."""
    positive = np.zeros((len(cover.positive), len(names)), dtype=bool)
    negative = np.zeros_like(positive)
    positive[:, relevant] = cover.positive
    negative[:, relevant] = cover.negative
    return Formula(names, positive, negative)


def sufficient_reason(
    function: ClassFunction,
    pattern: Bool[np.ndarray, " concepts"],
    guarantee: Guarantee,
    names: Sequence[str],
    observed: Bool[np.ndarray, "patterns concepts"],
    groups: Sequence[Group],
) -> Formula:
    """The fewest literals of one row that alone force the network's decision for it.

    A shortest prime implicant of the class function that covers the row: exact over the whole
    domain of the guarantee. For "all" and "valid" every subset of the m relevant concepts is
    tried at once by an AND-transform over 2^m tables (m at most 20); "observed" is a minimum
    hitting set of the observed patterns the network decides otherwise.
    """
    relevant = function.relevant
    row = pattern[relevant]
    if not function.decide(row[None])[0]:
        raise InputError("the network does not predict this class for the row")
    if guarantee == "observed" or 2 ** len(relevant) > TABLE_LIMIT:
        domain = domain_of("observed", function, observed, groups)
        against = domain[~function.decide(domain)]
        if len(against) == 0:
            return Formula.true(names)
        return lift(minimize(row[None], against, method="exact"), relevant, names)
    kept = _shortest_fixed(_decided_or_invalid(function, guarantee, observed, groups, row))
    positive = np.zeros((1, len(names)), dtype=bool)
    negative = np.zeros_like(positive)
    positive[0, relevant] = kept & row
    negative[0, relevant] = kept & ~row
    return Formula(names, positive, negative)


def _decided_or_invalid(
    function: ClassFunction,
    guarantee: Guarantee,
    observed: Bool[np.ndarray, "patterns concepts"],
    groups: Sequence[Group],
    row: Bool[np.ndarray, " m"],
) -> Bool[np.ndarray, " table"]:
    """A table over flips of the row: true where the class holds or the pattern cannot occur."""
    domain = domain_of(guarantee, function, observed, groups)
    flips = domain ^ row
    numbers = flips @ (1 << np.arange(len(row), dtype=np.int64))
    table = np.ones(2 ** len(row), dtype=bool)
    table[numbers] = function.decide(domain)
    return table


def _shortest_fixed(table: Bool[np.ndarray, " table"]) -> Bool[np.ndarray, " m"]:
    """The smallest set of variables whose fixing at 0 makes the table true throughout."""
    width = len(table).bit_length() - 1
    free = table.copy()
    for variable in range(width):
        # free[U] becomes the AND of the table over all flips within the set U.
        halves = free.reshape(-1, 2, 2**variable)
        halves[:, 1] &= halves[:, 0]
    sizes = np.bitwise_count(np.arange(len(free), dtype=np.uint32)).astype(int)
    best = int(np.where(free, sizes, -1).argmax())
    return (best >> np.arange(width)) & 1 == 0


def paper_formula(
    net: LogicNet,
    target: int,
    observed: Bool[np.ndarray, "patterns concepts"],
    predicted: Bool[np.ndarray, " patterns"],
    counts: Patterns,
    names: Sequence[str],
    *,
    top: int = 20,
) -> Formula:
    """The paper's own aggregation of example-level explanations into a class formula.

    Example-level explanations of the training rows of the class that the network gets right are
    ordered by how many rows share them; the `top` most frequent join the disjunction one by one
    where they raise its validation accuracy. The psi network's formula is instead the composition
    of its neurons' truth tables. `predicted` says for which observed patterns the network
    predicts the class.
    (Section 3 of the paper, and the procedure of its published code.)
    """
    head = target if len(net.mask) > 1 else 0
    if isinstance(net, PsiNet):
        formula = psi_formula(net, head, names)
        return ~formula if len(net.mask) == 1 and target == 0 else formula
    right = (counts.training[:, target] > 0) & predicted
    rows = observed[right]
    with torch.no_grad():
        parameter = next(net.parameters())
        local = net.local_relevance(torch.from_numpy(rows).to(parameter.device, parameter.dtype))
    kept = local[:, head].cpu().numpy()
    literals = np.concatenate([kept & rows, kept & ~rows], axis=1)
    terms, inverse = np.unique(literals, axis=0, return_inverse=True)
    frequency = np.bincount(
        inverse.reshape(-1), weights=counts.training[right, target], minlength=len(terms)
    )
    order = np.argsort(-frequency, kind="stable")[:top]
    inside, outside = counts.membership(target)
    gain = inside - outside
    formula, best = Formula.false(names), 0.0
    for index in order:
        positive, negative = np.split(terms[index : index + 1], 2, axis=1)
        trial = formula | Formula(names, positive, negative)
        score = float(gain[trial(observed)].sum())
        if score > best:
            formula, best = trial, score
    return formula


def psi_formula(net: PsiNet, head: int, names: Sequence[str]) -> Formula:
    """Compose the truth tables of a psi network's neurons into one formula (paper, section 4.1).

    Equals `net.boolean_forward` on every input: each neuron is a Boolean function of its few
    kept inputs, and formulas are substituted layer by layer.
    """
    below = [Formula.literal(names, name) for name in names]
    for layer in net.neuron_tables(head):
        here = []
        for neuron in layer:
            local = [f"input {position}" for position in range(len(neuron.inputs))]
            cover = minimize(neuron.fires.numpy())
            formula = Formula(local, cover.positive, cover.negative)
            inputs = {name: below[index] for name, index in zip(local, neuron.inputs, strict=True)}
            here.append(formula.substitute(inputs).over(names))
        below = here
    return below[0]


@dataclass(frozen=True)
class Front:
    """Formulas from the whole one down to a constant, each a literal or term shorter.

    At each step the removal that costs the least accuracy is made.
    """

    formulas: tuple[Formula, ...]
    accuracies: tuple[float, ...]
    precisions: tuple[float, ...]
    recalls: tuple[float, ...]

    @cached_property
    def points(self) -> list[dict[str, Any]]:
        """One row a formula: literals, accuracy, precision, recall, formula."""
        return [
            {
                "literals": formula.n_literals,
                "accuracy": accuracy,
                "precision": precision,
                "recall": recall,
                "formula": formula,
            }
            for formula, accuracy, precision, recall in zip(
                self.formulas, self.accuracies, self.precisions, self.recalls, strict=True
            )
        ]

    def best(self, max_literals: int | None = None, cost: float = 0.0) -> Formula:
        """The formula with the best accuracy less `cost` a literal, within `max_literals`."""
        allowed = [
            (accuracy - cost * formula.n_literals, -formula.n_literals, index)
            for index, (formula, accuracy) in enumerate(
                zip(self.formulas, self.accuracies, strict=True)
            )
            if max_literals is None or formula.n_literals <= max_literals
        ]
        return self.formulas[max(allowed)[2]]


def make_front(
    formula: Formula,
    concepts: Bool[np.ndarray, "patterns concepts"],
    inside: Int[np.ndarray, " patterns"],
    outside: Int[np.ndarray, " patterns"],
    *,
    steps: int = 200,
) -> Front:
    """The accuracy-against-length front of a formula.

    `inside` and `outside` count the rows of each pattern that belong to the class and that do
    not. Whole terms are removed while more than 60 are left, then single literals too.
    """
    names = formula.names
    positive, negative = formula.positive, formula.negative
    total = float(inside.sum() + outside.sum())
    formulas, figures = [], []
    for _ in range(steps):
        current = Formula(names, positive, negative)
        formulas.append(current)
        figures.append(_rates(current(concepts), inside, outside, total))
        if current.n_literals == 0:
            # Of the two constants, the one that is right more often.
            better = Formula.true(names) if inside.sum() > outside.sum() else Formula.false(names)
            if len(formulas) > 1:
                formulas[-1] = better
                figures[-1] = _rates(better(concepts), inside, outside, total)
            break
        positive, negative = current.positive, current.negative
        positive, negative = _cheapest_removal(positive, negative, concepts, inside, outside)
    accuracies, precisions, recalls = zip(*figures, strict=True)
    return Front(tuple(formulas), accuracies, precisions, recalls)


def _rates(
    fired: Bool[np.ndarray, " patterns"],
    inside: Int[np.ndarray, " patterns"],
    outside: Int[np.ndarray, " patterns"],
    total: float,
) -> tuple[float, float, float]:
    hits, false_alarms = float(inside[fired].sum()), float(outside[fired].sum())
    members = float(inside.sum())
    accuracy = (hits + float(outside.sum()) - false_alarms) / max(total, 1.0)
    precision = hits / (hits + false_alarms) if hits + false_alarms else 1.0
    recall = hits / members if members else 1.0
    return accuracy, precision, recall


def _cheapest_removal(
    positive: Bool[np.ndarray, "terms concepts"],
    negative: Bool[np.ndarray, "terms concepts"],
    concepts: Bool[np.ndarray, "patterns concepts"],
    inside: Int[np.ndarray, " patterns"],
    outside: Int[np.ndarray, " patterns"],
) -> tuple[Bool[np.ndarray, "left concepts"], Bool[np.ndarray, "left concepts"]]:
    """Remove the term or literal whose removal leaves the most accuracy, the most literals first.

    A term's removal is judged by the patterns only it covers; a literal's by the patterns that
    miss this term by exactly that literal and that no other term covers.
    """
    gain_of = inside - outside
    misses = concepts.astype(np.float32) @ negative.T.astype(np.float32)
    misses += (~concepts).astype(np.float32) @ positive.T.astype(np.float32)
    covered = misses == 0
    cover_count = covered.sum(axis=1)
    alone = covered & (cover_count == 1)[:, None]
    term_gain = -(gain_of @ alone)
    sizes = (positive | negative).sum(axis=1)
    best_gain, best_size, best = -np.inf, 0, (0, -1)
    for term, gain in enumerate(term_gain):
        if (gain, sizes[term]) > (best_gain, best_size):
            best_gain, best_size, best = float(gain), int(sizes[term]), (term, -1)
    if len(positive) <= 60:
        near = (misses == 1) & (cover_count == 0)[:, None]
        for term in range(len(positive)):
            rows = near[:, term]
            if sizes[term] < 2:
                continue
            weights = gain_of[rows]
            violated = np.where(concepts[rows], negative[term], positive[term])
            gains = weights @ violated
            for literal in np.flatnonzero(positive[term] | negative[term]):
                if (float(gains[literal]), 1) > (best_gain, best_size):
                    best_gain, best_size, best = float(gains[literal]), 1, (term, int(literal))
    term, column = best
    if column < 0:
        return np.delete(positive, term, axis=0), np.delete(negative, term, axis=0)
    positive, negative = positive.copy(), negative.copy()
    positive[term, column] = negative[term, column] = False
    return positive, negative


def style_function(
    function: ClassFunction,
    style: Style,
    observed: Bool[np.ndarray, "patterns concepts"],
    inside: Int[np.ndarray, " patterns"],
    outside: Int[np.ndarray, " patterns"],
    rate: float,
) -> ClassFunction:
    """The class function of a style: the network's margin against another threshold.

    IF asks for the least margin, of 0 or more, from which on the precision on the counted rows is
    at least `rate`; ONLY IF for the greatest, of 0 or less, at which the recall is. Both rates
    count one row of each kind more than there is (Laplace), so that few rows are not certainty.
    Where no threshold reaches the rate, the one that comes closest is taken.
    """
    if style == "iff":
        return function
    margin = function.margin(observed[:, function.relevant])
    steps = np.unique(margin)
    between = (steps[:-1] + steps[1:]) / 2
    if style == "if":
        thresholds = np.concatenate([[0.0], between[between > 0]])
    else:
        thresholds = np.concatenate([[0.0], between[between < 0][::-1], [steps[0] - 1.0]])
    best, best_rate = float(thresholds[0]), -1.0
    members = float(inside.sum())
    for threshold in thresholds:
        fired = margin > threshold
        hits, alarms = float(inside[fired].sum()), float(outside[fired].sum())
        found = (hits + 1) / ((hits + alarms if style == "if" else members) + 2)
        if found > best_rate:
            best, best_rate = float(threshold), found
        if found >= rate:
            break
    return ClassFunction(function.relevant, function.margin, best)


def restyle(certificate: Certificate, counter_examples: int) -> Certificate:
    """The certificate of a formula that was shortened after minimisation."""
    return replace(
        certificate, lower_bound=float("nan"), gap=float("nan"), counter_examples=counter_examples
    )


def possible_part(formula: Formula, groups: Sequence[Group]) -> Formula:
    """The same formula for valid rows: impossible terms and implied literals left out.

    A term with two members of an exclusive group, or with a member of an ordered one but not a
    lower member, holds for no valid row. A literal that another one of the term implies by the
    groups says nothing.
    """
    positive, negative = formula.positive.copy(), formula.negative.copy()
    dead = np.zeros(len(positive), dtype=bool)
    for group in groups:
        members = list(group.members)
        yes, no = positive[:, members], negative[:, members]
        if group.kind == "exclusive":
            dead |= yes.sum(axis=1) > 1
            if group.complete:
                dead |= no.all(axis=1)
            negative[:, members] &= ~yes.any(axis=1, keepdims=True)
            continue
        # Member i + 1 implies member i: the highest yes and the lowest no say it all.
        above = np.logical_or.accumulate(yes[:, ::-1], axis=1)[:, ::-1]
        below = np.logical_or.accumulate(no, axis=1)
        dead |= (above & no).any(axis=1)
        positive[:, members[:-1]] &= ~above[:, 1:]
        negative[:, members[1:]] &= ~below[:, :-1]
        if group.missing is not None:
            dead |= positive[:, group.missing] & yes.any(axis=1)
            negative[yes.any(axis=1), group.missing] = False
            negative[:, members] &= ~positive[:, [group.missing]]
    return Formula(formula.names, positive[~dead], negative[~dead])
