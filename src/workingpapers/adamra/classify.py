"""Train, evaluate and ask a classifier of long sequences: what lies between a task and a model."""

import hashlib
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float, Int, Integer, UInt8
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from workingpapers import __version__
from workingpapers.adamra import listops
from workingpapers.adamra.baselines import baselines
from workingpapers.adamra.encoder import AdaMRAEncoder, EncoderConfig
from workingpapers.adamra.protocols import protocol_for
from workingpapers.adamra.runs import (
    Kind,
    RunConfig,
    check_same_examples,
    claim_run,
)
from workingpapers.adamra.tasks import TASKS, Examples, LongRangeTask, Split, open_task
from workingpapers.foundation.console import write_atomically
from workingpapers.foundation.errors import InputError, missing_package
from workingpapers.foundation.text import Bytes, documents
from workingpapers.foundation.training import (
    TIMED_STEPS,
    DivergedError,
    History,
    TrainConfig,
    count_parameters,
    fit,
    one_process,
    step_seconds,
)

if TYPE_CHECKING:
    from lightning_fabric import Fabric

HELD_OUT_SEED = 0
"""Of validation and test examples: the same for all runs, so that they can be compared."""

BASELINE_EXAMPLES = 5_000
"""The most training examples that shallow baselines are fitted to."""

EVALUATIONS = 10
"""Evaluations of a run, unless another number of steps between them is asked for."""

COARSE_RATES = (4, 16, 32)
"""The resolutions of what is called adamra-coarse among the attentions."""

EVALUATED_SHARE = 0.25
"""The most of a time budget that evaluations may take, the last one apart."""


def make_run(
    task: str,
    *,
    protocol: str = "laptop",
    data: Path | None = None,
    text: str | None = None,
    label: str | None = None,
    trust: bool = False,
    length: int | None = None,
    encoder: Mapping[str, Any] | None = None,
    training: Mapping[str, Any] | None = None,
    batch: int | None = None,
    examples: int | None = None,
    processes: int = 1,
) -> RunConfig:
    """A run of a protocol's settings, of which those that are given here take precedence.

    `encoder` and `training` hold fields of EncoderConfig and TrainConfig. InputError for a task,
    a protocol or a value that cannot be.
    """
    settings = protocol_for(task, protocol)
    own = task not in TASKS
    opened = open_task(
        task,
        data,
        length=length if own else length or settings.length,
        text=text,
        label=label,
        trust=trust,
    )
    if own and length is None and opened.length > (settings.length or opened.length):
        opened = open_task(task, length=settings.length, text=text, label=label)
    changed = {name: value for name, value in (training or {}).items() if value is not None}
    train_config: dict[str, Any] = {
        "learning_rate": settings.learning_rate,
        "schedule": settings.schedule,
        "warmup": settings.warmup,
        "weight_decay": settings.weight_decay,
    }
    if "seconds" not in changed:
        steps = changed.get("steps", settings.steps)
        train_config["steps"] = steps
        train_config["evaluate_every"] = math.ceil(max(steps, 1) / EVALUATIONS)
        train_config["save_every"] = _save_every(train_config["evaluate_every"])
        # A run cut short is warmed up for its share of it.
        train_config["warmup"] = min(settings.warmup, int(settings.warmup / settings.steps * steps))
    else:
        train_config["warmup"] = 0
    train_config |= changed
    encoder_config: dict[str, Any] = {
        "vocabulary": opened.vocabulary,
        "classes": len(opened.class_names),
        "length": opened.length,
        "pair": opened.pair,
        "dim": settings.dim,
        "depth": settings.depth,
        "heads": settings.heads,
        "feed_forward": settings.feed_forward,
        "pooling": settings.pooling,
        "dropout": settings.dropout,
    }
    encoder_config |= {name: one for name, one in (encoder or {}).items() if one is not None}
    if encoder_config.get("attention") == "adamra-coarse":
        encoder_config |= {"attention": "adamra", "rates": COARSE_RATES}
    return RunConfig(
        task=str(Path(task).absolute()) if own else task,
        data=None if data is None else str(data.absolute()),
        text=text,
        label=label,
        trust=trust,
        classes=opened.class_names,
        kind=_kind(opened),
        encoder=EncoderConfig(**encoder_config),
        training=TrainConfig(**train_config),
        batch=settings.batch if batch is None else batch,
        processes=processes,
        train_examples=settings.train if examples is None else examples,
        validation_examples=settings.validation,
        test_examples=settings.test,
    )


def _save_every(evaluate_every: int) -> int:
    """As often as a run is evaluated, so that slow ones lose little; else fit's own number."""
    return min(evaluate_every, TrainConfig(steps=1).save_every)


def _kind(task: LongRangeTask) -> Kind:
    if task.grid is not None:
        return "pixels"
    return "symbols" if task.name.startswith("listops") else "bytes"


# ---- training


class Batches:
    """Batches of (tokens, labels) as a function of their number alone, which resuming relies on.

    The examples stand in an order of its own for each epoch, one epoch after the other.
    """

    def __init__(self, examples: Examples, batch: int, seed: int) -> None:
        self.examples, self.batch, self.seed = examples, batch, seed
        # The order of the last epochs: a batch may lie in two of them.
        self._order = lru_cache(maxsize=2)(self._draw_order)

    def __call__(
        self, index: int
    ) -> tuple[Int[Tensor, "batch length"] | Int[Tensor, "batch 2 length"], Int[Tensor, " batch"]]:
        """The batch of this number, from 0."""
        rows = self.rows(index)
        return as_tensor(self.examples.tokens[rows]), torch.from_numpy(self.examples.labels[rows])

    def rows(self, index: int) -> Int[np.ndarray, " batch"]:
        """Which examples the batch holds."""
        places = np.arange(index * self.batch, (index + 1) * self.batch)
        epochs, offsets = np.divmod(places, len(self.examples))
        parts = [self._order(int(each))[offsets[epochs == each]] for each in np.unique(epochs)]
        return np.concatenate(parts)

    def tokens_before(self, index: int) -> int:
        """Real tokens in all batches before this one."""
        tokens = self.examples.tokens
        sizes = np.count_nonzero(tokens.reshape(len(tokens), -1), axis=1)
        epochs, rest = divmod(index * self.batch, len(self.examples))
        return int(epochs * sizes.sum() + sizes[self._order(epochs)[:rest]].sum())

    def _draw_order(self, epoch: int) -> Int[np.ndarray, " count"]:
        return np.random.default_rng((self.seed, epoch)).permutation(len(self.examples))


def as_tensor(tokens: Integer[np.ndarray, "*shape"]) -> Int[Tensor, "*shape"]:
    """Tokens as PyTorch indexes with them."""
    return torch.from_numpy(tokens.astype(np.int64))


def classification_loss(
    model: nn.Module, batch: tuple[Tensor, Tensor]
) -> tuple[Float[Tensor, ""], dict[str, float]]:
    """Cross entropy of (tokens, labels), and the accuracy to log."""
    tokens, labels = batch
    scores = model(tokens)
    accuracy = (scores.detach().argmax(1) == labels).float().mean()
    return cross_entropy(scores, labels), {"accuracy": float(accuracy)}


@dataclass(frozen=True)
class Estimate:
    """What a training will take."""

    parameters: int
    steps: int
    epochs: float
    tokens_per_step: int
    """At most: padding counts."""
    step_seconds: float
    minutes: float
    """With evaluations, without reading or generating data."""


@dataclass(frozen=True)
class Trained:
    """What a training came to."""

    model: AdaMRAEncoder
    history: History
    scores: dict[str, float]
    """On validation data, of the weights that were kept."""
    baselines: dict[str, float]
    """Accuracies of shallow classifiers on the same data."""
    tokens: int
    """Real tokens read by all processes together."""


class Training:
    """A run's data and untrained model.

    Where `run.training` has seconds, `settle` comes before `fit`. InputError for data that is
    missing, not as expected, or not what the run was begun with.
    """

    def __init__(self, run: RunConfig, device: str = "cpu") -> None:
        self.device = device
        self.task = run.open_task()
        self.examples = self.task.sample("train", run.train_examples, run.seed)
        self.validation = self.task.sample("validation", run.validation_examples, HELD_OUT_SEED)
        for split, found in (("train", self.examples), ("validation", self.validation)):
            check_examples(run, run.data or run.task, split, found)
        digest = _digest(self.examples, self.validation)
        check_same_examples(run, digest)
        self.run = replace(run, examples_sha256=digest)
        self.batches = Batches(self.examples, run.batch, run.seed)
        with torch.random.fork_rng():
            torch.manual_seed(run.seed)
            self.model = AdaMRAEncoder(run.encoder)
        self.model.to(device)

    def settle(
        self,
        repeats: int = TIMED_STEPS,
        most: int | None = None,
        patience: int | None = None,
    ) -> Estimate:
        """Time `repeats` steps; where the run has a time budget, turn it into steps.

        Batches of more than `most` sequences are timed by so many of them. A run with a budget
        gets the `patience`, which has no meaning before the evaluations are planned.
        """
        config = self.run.training
        timed = min(self.run.batch, most or self.run.batch)
        seconds = self._step_seconds(timed, repeats) * self.run.batch / timed
        evaluation = self._evaluation_seconds()
        if config.seconds is not None:
            if config.evaluate_every is not None:
                steps = int(config.seconds / (seconds + evaluation / config.evaluate_every))
                times = 1
            else:
                times = int(EVALUATED_SHARE * config.seconds / evaluation)
                times = max(1, min(EVALUATIONS, times))
                steps = int((config.seconds - times * evaluation) / seconds)
            steps = max(1, steps)
            every = config.evaluate_every or math.ceil(steps / times)
            config = replace(
                config,
                steps=steps,
                seconds=None,
                evaluate_every=every,
                save_every=_save_every(every),
                warmup=config.warmup or steps // 10,
                patience=patience or config.patience,
            )
            self.run = replace(self.run, training=config)
        assert config.steps is not None
        steps = config.steps
        every = config.evaluate_every or steps
        sequences = self.run.batch * config.accumulate
        return Estimate(
            parameters=count_parameters(self.model),
            steps=steps,
            epochs=steps * sequences / len(self.examples),
            tokens_per_step=sequences * self.run.encoder.length * (1 + self.run.encoder.pair),
            step_seconds=seconds,
            minutes=(steps * seconds + math.ceil(steps / every) * evaluation) / 60,
        )

    def fit(
        self,
        folder: Path | None = None,
        *,
        fabric: "Fabric | None" = None,
        progress: Callable[[int], None] | None = None,
    ) -> Trained:
        """Train; with a folder, keep the run there, or go on with the one that is there.

        Raises what `foundation.training.fit` raises, InputError where the folder holds another
        run, and DivergedError, before a model is saved, where its loss is not finite.
        """
        if fabric is None:
            fabric = one_process(self.run.training, self.device)
        if fabric.world_size != self.run.processes:
            raise InputError(
                f"devices: expected {self.run.processes} processes in all, as the run was begun "
                f"with; found {fabric.world_size}"
            )
        if folder is not None and fabric.is_global_zero:
            claim_run(folder, self.run)
        history = fit(
            self.model,
            classification_loss,
            self.batches,
            self.run.training,
            folder=folder,
            fabric=fabric,
            evaluate=lambda model: evaluate(model, self.validation, self.run.evaluation_batch),
            progress=progress,
        )
        self.model.eval()
        # None are there where somebody removed the file of evaluations.
        scores = _kept_scores(history) or evaluate(
            self.model, self.validation, self.run.evaluation_batch
        )
        if not math.isfinite(scores["loss"]):
            raise DivergedError(
                f"training: the loss on validation data is {scores['loss']}; try a smaller "
                "learning rate"
            )
        last = history.log[-1]["step"] if history.log else history.resumed_from
        read = int(last) * self.run.training.accumulate * fabric.world_size
        trained = Trained(
            self.model,
            history,
            scores,
            self._baselines() if fabric.is_global_zero else {},
            self.batches.tokens_before(read),
        )
        if folder is not None and fabric.is_global_zero:
            write_atomically(folder / "README.md", model_card(self.run, self.task, trained))
            # Last: a run whose model is there is finished.
            self.model.save_pretrained(folder / "model", overwrite=True)
        return trained

    def _baselines(self) -> dict[str, float]:
        few = self.examples.take(np.arange(min(len(self.examples), BASELINE_EXAMPLES)))
        return baselines(self.task, few, self.validation)

    def _step_seconds(self, batch: int, repeats: int) -> float:
        batches = Batches(self.examples, batch, self.run.seed)
        return step_seconds(
            self.model, classification_loss, batches, self.run.training, repeats=repeats
        )

    def _evaluation_seconds(self) -> float:
        few = self.validation.take(np.arange(min(len(self.validation), 16)))
        evaluate(self.model.eval(), few)
        start = time.perf_counter()
        evaluate(self.model, few)
        return (time.perf_counter() - start) * len(self.validation) / len(few)


def train(
    run: RunConfig,
    folder: Path | None = None,
    progress: Callable[[int], None] | None = None,
    *,
    device: str = "cpu",
) -> History:
    """Train a run from its configuration alone, or go on with the one in the folder.

    One with a time budget is continued as `RUNS.read(folder)`, where the budget has become steps.
    """
    training = Training(run, device)
    if run.training.seconds is not None:
        training.settle()
    return training.fit(folder, progress=progress).history


def check_examples(run: RunConfig, where: str | Path, split: str, examples: Examples) -> None:
    """InputError, with `where` they come from, for no examples or none with a token."""
    if len(examples) == 0:
        raise InputError(f"{where}: expected examples in the split {split}, found none")
    if not examples.tokens.any():
        raise InputError(
            f"--length {run.encoder.length}: expected more, it cuts all sequences of the split "
            f"{split} of {where} to nothing"
        )


def _digest(*parts: Examples) -> str:
    """The SHA-256 of tokens and labels."""
    digest = hashlib.sha256()
    for examples in parts:
        for array in (examples.tokens, examples.labels):
            digest.update(f"{array.dtype} {array.shape} ".encode())
            digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def _kept_scores(history: History) -> dict[str, float]:
    """The evaluation of the weights that were kept: the best ones with patience, else the last."""
    rows = history.evaluations
    if history.best_step is not None:
        rows = [row for row in rows if row["step"] == history.best_step]
    return {name: value for name, value in rows[-1].items() if name != "step"} if rows else {}


# ---- evaluation


@torch.no_grad()
def class_scores(
    model: nn.Module,
    tokens: Integer[np.ndarray, "count *length"],
    batch: int = 64,
    seen: Callable[[], None] = lambda: None,
) -> Float[Tensor, "count classes"]:
    """Scores before the softmax, on the CPU; `seen` is called after each batch.

    The model is used as it is: `eval()` is the caller's.
    """
    device = next(model.parameters()).device
    # Sequences of like length together: less padding is read.
    sizes = np.count_nonzero(tokens, axis=-1).reshape(len(tokens), -1).max(1)
    order = np.argsort(sizes, kind="stable")
    parts = []
    for start in range(0, len(tokens), batch):
        parts.append(model(as_tensor(tokens[order[start : start + batch]]).to(device)).cpu())
        seen()
    scores = torch.cat(parts)
    return scores[torch.from_numpy(np.argsort(order))].float()


def evaluate(
    model: nn.Module,
    examples: Examples,
    batch: int = 64,
    progress: Callable[[int], None] | None = None,
) -> dict[str, float]:
    """Accuracy and mean cross entropy, then what each adaptive layer's router does.

    `layer1_rate4` is the share of real tokens (of heads, where each has a choice of its own) that
    read means of 4 in the first layer, `layer1_entropy` the mean entropy of its probabilities, in
    nats. `progress` is told of each batch.
    """
    return assess(model, examples, batch, progress)[0]


def assess(
    model: nn.Module,
    examples: Examples,
    batch: int = 64,
    progress: Callable[[int], None] | None = None,
) -> tuple[dict[str, float], Int[np.ndarray, " count"]]:
    """What `evaluate` gives, and the class that the model takes each example for."""
    if not examples.tokens.any():
        raise InputError("examples: expected at least one, with at least one token")
    layers = model.attentions() if isinstance(model, AdaMRAEncoder) else []
    counts = [torch.zeros(len(layer.rates), dtype=torch.float64) for layer in layers]
    entropies = [0.0] * len(layers)

    def count() -> None:
        for index, layer in enumerate(layers):
            routing, mask = layer.last_routing()
            size = math.prod(routing.choice.shape[:2]) if mask is None else int(mask.sum())
            counts[index] += size * layer.routing_shares().cpu().double()
            entropies[index] += size * layer.routing_entropy()
        if progress is not None:
            progress(1)

    scores = class_scores(model, examples.tokens, batch, count)
    labels, answers = torch.from_numpy(examples.labels), scores.argmax(1)
    found = {
        "accuracy": float((answers == labels).double().mean()),
        "loss": float(cross_entropy(scores, labels)),
    }
    for number, (layer, of_rate, entropy) in enumerate(
        zip(layers, counts, entropies, strict=True), start=1
    ):
        total = float(of_rate.sum())
        for rate, share in zip(layer.rates, (of_rate / total).tolist(), strict=True):
            found[f"layer{number}_rate{rate}"] = share
        found[f"layer{number}_entropy"] = entropy / total
    return found, answers.numpy()


def predict(
    model: nn.Module, tokens: Integer[np.ndarray, "count *length"], batch: int = 64
) -> Float[np.ndarray, "count classes"]:
    """Probabilities of the classes; rows sum to 1."""
    return class_scores(model.eval(), tokens, batch).softmax(1).numpy()


def resolutions(
    model: AdaMRAEncoder, tokens: Integer[np.ndarray, " length"]
) -> Int[np.ndarray, "layers tokens"]:
    """The resolution (an index into the rates) that each real token of a sequence reads, by layer.

    Where each head has a choice of its own, the one that most heads took, the finest of equals.
    InputError for a model without adaptive attention, or whose tokens choose nothing.
    """
    config = model.config
    layers = model.attentions()
    if not layers:
        raise InputError(f"attention {config.attention}: it has no resolutions to choose from")
    if config.routing in ("fixed", "off"):
        raise InputError(f"routing {config.routing}: its tokens do not choose a resolution")
    real = tokens[tokens != 0]
    with torch.no_grad():
        # Alone, also in a task of pairs: the parts are encoded one by one.
        model.eval().encode(as_tensor(real)[None].to(next(model.parameters()).device))
    choices = []
    for layer in layers:
        routing, _ = layer.last_routing()
        choice = routing.choice[0].cpu()
        if choice.ndim == 2:
            votes = torch.nn.functional.one_hot(choice, len(layer.rates)).sum(1)
            choice = votes.argmax(1)
        # A class token, where there is one, comes first.
        choices.append(choice[-len(real) :].numpy())
    return np.stack(choices)


# ---- what a user asks about


def read_sequences(
    run: RunConfig, path: Path, text: str | None = None
) -> tuple[list[str], Integer[np.ndarray, "count *length"]]:
    """Names and tokens of the sequences at a path, classes not needed.

    For texts what `foundation.text.documents` reads, with the text in the column `text` (of pairs
    in text1 and text2); for ListOps a .txt file with one expression or a .tsv of Long Range
    Arena; for pixels a picture or a folder of .png. InputError names what is not as expected.
    """
    if not path.exists():
        raise InputError(f"{path}: no such file or folder")
    length = run.encoder.length
    if run.kind == "pixels":
        files = sorted(path.glob("*.png")) if path.is_dir() else [path]
        if not files:
            raise InputError(f"{path}: expected .png pictures in it, found none")
        return [file.name for file in files], np.stack([_picture(run, file) for file in files])
    if run.kind == "symbols":
        if path.suffix == ".tsv":
            tokens, _ = listops.read_tsv(path, length)
            return [f"{path}: line {row + 2}" for row in range(len(tokens))], tokens
        return [str(path)], encode_text(run, _read_text(path), str(path))[None]
    if run.encoder.pair:
        _check_pairs(path)
        first, second = (list(documents(path, text=column)) for column in ("text1", "text2"))
        pairs = np.stack([_batch(first, length), _batch(second, length)], axis=1)
        return [document.source for document in first], pairs
    found = list(documents(path, text=text or run.text or "text"))
    return [document.source for document in found], _batch(found, length)


def read_labelled(
    run: RunConfig,
    path: Path,
    split: Split = "test",
    text: str | None = None,
    label: str | None = None,
) -> Examples:
    """Labelled examples at a path: all those of a user's table or folder, or a split of a set.

    For named tasks other than of texts, `path` is where `open_task` finds the public files.
    InputError names what is not as expected, and a class that the run does not know.
    """
    if not path.exists():
        raise InputError(f"{path}: no such file or folder")
    length = run.encoder.length
    if run.kind == "symbols" and path.is_file():
        tokens, values = listops.read_tsv(path, length)
        return Examples(tokens, values, {"depth": _tree_depths(tokens)})
    public = path.is_dir() and any((path / name).is_dir() for name in ("test", "aclImdb"))
    if (
        run.kind != "bytes"
        or (run.task in TASKS and public)
        or (run.encoder.pair and path.is_dir())
    ):
        task = replace(run, data=str(path)).open_task()
        return task.sample(split, None, HELD_OUT_SEED)
    if run.encoder.pair:
        _check_pairs(path)
    column = label or run.label or "label"
    names = ("text1", "text2") if run.encoder.pair else (text or run.text or "text",)
    sides = [list(documents(path, text=name, label=column)) for name in names]
    labels = []
    for document in sides[0]:
        if document.label not in run.classes:
            found = "no class" if document.label is None else f"the class {document.label!r}"
            raise InputError(
                f"{document.source}: expected one of the run's classes, {', '.join(run.classes)}; "
                f"found {found}"
            )
        labels.append(run.classes.index(document.label))
    batches = [_batch(side, length) for side in sides]
    return Examples(
        np.stack(batches, axis=1) if run.encoder.pair else batches[0], np.array(labels, np.int64)
    )


def _check_pairs(path: Path) -> None:
    if path.is_dir() or path.name.removesuffix(".gz").endswith(".txt"):
        raise InputError(f"{path}: expected a table with columns text1 and text2, a pair a row")


def encode_text(run: RunConfig, text: str, where: str) -> Integer[np.ndarray, " length"]:
    """The tokens of one text, cut at the run's length; InputError names `where` it stands."""
    if run.kind == "pixels":
        raise InputError(f"{where}: expected a picture, the run classifies pixels")
    try:
        if run.kind == "bytes":
            tokens = Bytes().encode(text, run.encoder.length)
        else:
            symbols = text.translate(str.maketrans("()", "  ")).split()
            tokens = listops.from_symbols(symbols)[: run.encoder.length]
    except InputError as error:
        raise InputError(f"{where}: {error}") from None
    if len(tokens) == 0:
        raise InputError(f"{where}: the text is empty")
    return tokens


def pieces(run: RunConfig, tokens: Integer[np.ndarray, " length"]) -> list[str]:
    """Readable signs of one sequence, one a token, without padding."""
    if run.kind == "symbols":
        return listops.to_symbols(tokens)
    if run.kind == "pixels":
        return [str(token - 1) for token in tokens.tolist() if token]
    # A user's own texts are made of the same signs; the task itself needs their file.
    return open_task("text").pieces(tokens)


def _tree_depths(tokens: UInt8[np.ndarray, "count length"]) -> Int[np.ndarray, " count"]:
    """The most brackets of ListOps that are open at once."""
    operators = len(listops.OPERATORS)
    opened = ((tokens > 0) & (tokens <= operators)).astype(np.int64)
    return np.cumsum(opened - (tokens == operators + 1), axis=1).max(axis=1)


def _batch(found: list[Any], length: int) -> Integer[np.ndarray, "count length"]:
    return Bytes().batch([document.text for document in found], length)


def _read_text(path: Path) -> str:
    (document,) = documents(path)
    return document.text


def _picture(run: RunConfig, path: Path) -> Integer[np.ndarray, " length"]:
    """A picture as tokens, row by row, its grey levels brought to the run's."""
    try:
        from PIL import Image
    except ImportError as error:
        raise missing_package("pillow", "adamra") from error
    side = math.isqrt(run.encoder.length)
    try:
        with Image.open(path) as picture:
            size = picture.size
            # Pixels are decoded but now: a small file may hold very many.
            grey = np.asarray(picture.convert("L")) if size == (side, side) else None
    except Image.DecompressionBombError as error:
        raise InputError(f"{path}: expected {side} x {side} pixels, found far more") from error
    except (OSError, SyntaxError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not a picture that can be read"
        raise InputError(f"{path}: {reason}") from error
    if grey is None:
        raise InputError(f"{path}: expected {side} x {side} pixels, found {size[0]} x {size[1]}")
    levels = run.encoder.vocabulary - 2
    return (np.rint(grey.reshape(-1) * (levels / 255)) + 1).astype(np.uint16)


def picture_of(run: RunConfig, tokens: Integer[np.ndarray, " length"]) -> UInt8[np.ndarray, "n n"]:
    """The grey picture that a sequence of pixels is."""
    side = math.isqrt(run.encoder.length)
    levels = run.encoder.vocabulary - 2
    grey = (tokens.astype(np.float64) - 1) * (255 / levels)
    return np.rint(grey).clip(0, 255).astype(np.uint8).reshape(side, side)


# ---- the folder of a run


def settings_of(run: RunConfig) -> dict[str, str]:
    """The settings of a run in readable words."""
    encoder, training = run.encoder, run.training
    attention = encoder.attention
    if attention == "adamra":
        rates = ", ".join(map(str, encoder.rates))
        attention = f"adamra, rates {rates}, routing {encoder.routing}"
        attention += f", {encoder.kernel} kernel, {encoder.feature_map} features"
    return {
        "attention": attention,
        "encoder": f"{encoder.depth} layers, {encoder.dim} channels in {encoder.heads} heads, "
        f"feed-forward {encoder.feed_forward}, {encoder.pooling} pooling, "
        f"dropout {encoder.dropout:g}",
        "longest sequence": f"{encoder.length:,} tokens" + (" twice" if encoder.pair else ""),
        "optimiser": f"AdamW, learning rate {training.learning_rate:g}, {training.schedule} "
        f"schedule after {training.warmup:,} steps of warm-up, weight decay "
        f"{training.weight_decay:g}, {training.precision}",
        "batch": f"{run.batch * training.accumulate} a process and step",
        "seed": str(run.seed),
    }


def model_card(run: RunConfig, task: LongRangeTask, trained: Trained) -> str:
    """The README.md of a run: data, settings, scores, baselines, and what the router does."""
    scores, history = trained.scores, trained.history
    step = history.best_step or (history.log[-1]["step"] if history.log else 0)
    lines = [
        f"# A classifier of long sequences: {task.name}",
        "",
        f"Trained by workingpapers {__version__} with adaptive multi-resolution attention "
        "(arXiv:2108.04962)."
        if run.encoder.attention == "adamra"
        else f"Trained by workingpapers {__version__} with the attention {run.encoder.attention}.",
        "",
        "## Data",
        "",
        f"- source: {task.source}",
        f"- licence: {task.licence}",
        f"- classes: {', '.join(run.classes)}",
        f"- tokens seen in training: {trained.tokens:,}",
        "",
        "## Settings",
        "",
        *(f"- {name}: {value}" for name, value in settings_of(run).items()),
        f"- parameters: {count_parameters(trained.model):,}",
        f"- weights kept: those after step {int(step):,} of {history.config.steps:,}",
        "",
        "## Accuracy on validation data",
        "",
        "| | accuracy |",
        "|---|---|",
        f"| this model | {scores.get('accuracy', math.nan):.3f} |",
        *(f"| {name} | {value:.3f} |" for name, value in trained.baselines.items()),
        "",
        "The rows below the first are shallow classifiers that ignore the order of the tokens, "
        f"fitted to at most {BASELINE_EXAMPLES:,} training examples. A model that is not above "
        "the best of them has not learned the task.",
    ]
    if layers := trained.model.attentions():
        rates = [f"rate {rate}" for rate in run.encoder.rates]
        lines += [
            "",
            "## Routing",
            "",
            "Share of validation tokens that read each resolution.",
            "",
            f"| layer | {' | '.join(rates)} | entropy, nats |",
            "|---" * (len(rates) + 2) + "|",
        ]
        for number, layer in enumerate(layers, start=1):
            shares = [scores.get(f"layer{number}_rate{rate}", math.nan) for rate in layer.rates]
            cells = [f"{share:.2f}" for share in shares]
            entropy = scores.get(f"layer{number}_entropy", math.nan)
            lines.append(f"| {number} | {' | '.join(cells)} | {entropy:.2f} |")
    lines += [
        "",
        "## Use",
        "",
        "```python",
        "from pathlib import Path",
        "from workingpapers.adamra import AdaMRAEncoder",
        "",
        'model = AdaMRAEncoder.from_pretrained(Path("model"))',
        "```",
        "",
        "`workingpapers adamra predict RUN FILE` classifies sequences of your own.",
    ]
    return "\n".join(lines) + "\n"
