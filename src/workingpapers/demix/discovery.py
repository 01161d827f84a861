"""Domains found in texts without labels: balanced clusters, as c-BTM has them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from workingpapers.foundation.errors import InputError, missing_package

_TERMS, _DIMENSIONS, _TYPICAL = 20_000, 100, 50
_SAMPLE, _ROUNDS = 2_000, 30


@dataclass(frozen=True)
class ClusterConfig:
    """What of a clusterer is words."""

    vocabulary: tuple[str, ...]
    typical: tuple[tuple[str, ...], ...]
    """For each cluster its most typical words."""


class DomainClusterer:
    """Clusters of texts, by the distance of their features to the clusters' centres.

    The features are tf-idf weights of words, reduced by a truncated singular value decomposition
    and brought to length 1 (Gururangan et al. 2023, arXiv:2303.14177, section 2).
    """

    def __init__(
        self,
        config: ClusterConfig,
        idf: Float[np.ndarray, " terms"],
        components: Float[np.ndarray, "dimensions terms"],
        centres: Float[np.ndarray, "clusters dimensions"],
        labels: Int[np.ndarray, " texts"],
    ) -> None:
        self.config, self.idf, self.components, self.centres = config, idf, components, centres
        self.labels = labels
        """The cluster of each text that the clusters were made from; all of nearly one size."""
        self._vectorizer = _vectorizer(vocabulary=list(config.vocabulary))
        self._vectorizer.idf_ = idf

    @property
    def clusters(self) -> int:
        """How many there are."""
        return len(self.centres)

    def predict(self, texts: Sequence[str]) -> Int[np.ndarray, " texts"]:
        """The nearest cluster of each text. Unlike `labels`, these need not be balanced."""
        return np.argmin(self._distances(texts), axis=1)

    def weights(
        self, texts: Sequence[str], temperature: float = 0.1, top_k: int | None = None
    ) -> Float[np.ndarray, "texts clusters"]:
        """Weights for the experts of the clusters, which sum to 1 for each text.

        Proportional to exp(-distance^2 / temperature); with `top_k` those of all but the `top_k`
        nearest clusters are 0.
        """
        if not temperature > 0:
            raise InputError(f"temperature: expected a number above 0, got {temperature}")
        if top_k is not None and not 1 <= top_k <= self.clusters:
            raise InputError(f"top_k: expected 1 to {self.clusters}, got {top_k}")
        logits = -self._distances(texts) / temperature
        if top_k is not None:
            farther = np.argsort(-logits, axis=1, kind="stable")[:, top_k:]
            np.put_along_axis(logits, farther, -np.inf, axis=1)
        weights = np.exp(logits - logits.max(axis=1, keepdims=True))
        return weights / weights.sum(axis=1, keepdims=True)

    def terms(self, count: int = 10) -> list[list[str]]:
        """For each cluster, at most `count` words (of the 50 kept) that are most typical of it."""
        return [list(words[:count]) for words in self.config.typical]

    def save(self, folder: Path, *, overwrite: bool = False) -> None:
        """Write it as config.json and clusters.safetensors into a folder, whole or not at all."""
        import torch

        from workingpapers.foundation import checkpoints

        arrays = {
            "idf": self.idf,
            "components": self.components,
            "centres": self.centres,
            "labels": self.labels,
        }
        tensors = {name: torch.from_numpy(np.ascontiguousarray(a)) for name, a in arrays.items()}
        checkpoints.save(folder, self.config, {"clusters": tensors}, overwrite=overwrite)

    @classmethod
    def load(cls, folder: Path) -> "DomainClusterer":
        """What `save` wrote; InputError for another folder."""
        from workingpapers.foundation import checkpoints

        config, parts = checkpoints.load(folder, ClusterConfig)
        arrays = {name: tensor.numpy() for name, tensor in parts["clusters"].items()}
        return cls(config, **arrays)

    def _distances(self, texts: Sequence[str]) -> Float[np.ndarray, "texts clusters"]:
        """Squared distances."""
        features = _unit(self._vectorizer.transform(texts) @ self.components.T)
        return _squared_distances(features, self.centres)


def discover_domains(texts: Sequence[str], k: int, *, seed: int = 0) -> DomainClusterer:
    """Divide texts into k clusters of as many texts each, give or take one in 2,000.

    InputError unless there are at least 2 clusters, twice as many texts, and words in them.
    """
    if k < 2:
        raise InputError(f"k: expected at least 2 clusters, got {k}")
    if len(texts) < 2 * k:
        raise InputError(f"texts: expected at least {2 * k} for {k} clusters, got {len(texts)}")
    vectorizer = _vectorizer(max_features=_TERMS, max_df=0.5, min_df=2)
    try:
        counts = vectorizer.fit_transform(texts)
    except ValueError as error:
        raise InputError("texts: expected some words that occur in more than one text") from error
    vocabulary = vectorizer.get_feature_names_out()
    from sklearn.decomposition import TruncatedSVD

    dimensions = min(_DIMENSIONS, len(vocabulary), len(texts) - 1)
    decomposition = TruncatedSVD(dimensions, random_state=seed)
    features = _unit(decomposition.fit_transform(counts))
    rng = np.random.default_rng(seed)
    centres = balanced_centres(features, k, rng)
    labels = _balanced(features, centres, rng)
    mean = np.asarray(counts.mean(axis=0)).ravel()
    typical = []
    for cluster in range(k):
        more = np.asarray(counts[labels == cluster].mean(axis=0)).ravel() - mean
        best = np.argsort(-more, kind="stable")[:_TYPICAL]
        typical.append(tuple(str(vocabulary[term]) for term in best if more[term] > 0))
    config = ClusterConfig(tuple(str(term) for term in vocabulary), tuple(typical))
    return DomainClusterer(config, vectorizer.idf_, decomposition.components_, centres, labels)


def balanced_centres(
    features: Float[np.ndarray, "texts dimensions"], k: int, rng: np.random.Generator
) -> Float[np.ndarray, "k dimensions"]:
    """Centres of k-means in which every cluster has as many texts, of a sample of the texts.

    Rounds of the best assignment of the sample to clusters of one size and of the means of these,
    until the assignment stays, from centres spread as k-means++ spreads them.
    """
    sample = features[rng.permutation(len(features))[:_SAMPLE]]
    centres = sample[rng.integers(len(sample))][None]
    while len(centres) < k:
        nearest = _squared_distances(sample, centres).min(axis=1)
        # Where all are at a centre already, any is as good.
        shares = nearest / nearest.sum() if nearest.sum() > 0 else None
        centres = np.vstack([centres, sample[rng.choice(len(sample), p=shares)]])
    labels = np.full(len(sample), -1)
    for _ in range(_ROUNDS):
        before, labels = labels, _assigned(_squared_distances(sample, centres))
        if np.array_equal(before, labels):
            break
        centres = np.array([sample[labels == cluster].mean(axis=0) for cluster in range(k)])
    return centres


def _balanced(
    features: Float[np.ndarray, "texts dimensions"],
    centres: Float[np.ndarray, "k dimensions"],
    rng: np.random.Generator,
) -> Int[np.ndarray, " texts"]:
    """Clusters of one size, by the best assignment within random samples of the texts."""
    labels = np.empty(len(features), dtype=np.int64)
    order = rng.permutation(len(features))
    for some in np.array_split(order, -(-len(order) // _SAMPLE)):
        labels[some] = _assigned(_squared_distances(features[some], centres))
    return labels


def _assigned(costs: Float[np.ndarray, "texts k"]) -> Int[np.ndarray, " texts"]:
    """The cluster of each text, of least cost in all with sizes that differ by 1 at most."""
    from scipy.optimize import linear_sum_assignment

    count, k = costs.shape
    places = np.tile(np.arange(k), -(-count // k))
    # A place too many of each cluster at most: no cluster then lacks more than one text, once the
    # places that all must fill are cheap.
    must = count // k * k
    matrix = costs[:, places]
    matrix[:, :must] -= 1 + np.ptp(costs) * count
    rows, columns = linear_sum_assignment(matrix)
    labels = np.empty(count, dtype=np.int64)
    labels[rows] = places[columns]
    return labels


def _unit(features: Float[np.ndarray, "texts dimensions"]) -> Float[np.ndarray, "texts dimensions"]:
    """Rows of length 1; a text without known words stays 0."""
    length = np.linalg.norm(features, axis=1, keepdims=True)
    return features / np.where(length > 0, length, 1)


def _squared_distances(
    one: Float[np.ndarray, "count dimensions"], other: Float[np.ndarray, "clusters dimensions"]
) -> Float[np.ndarray, "count clusters"]:
    squares = (one**2).sum(1)[:, None] + (other**2).sum(1)
    return np.maximum(squares - 2 * one @ other.T, 0)


def _vectorizer(**settings: Any) -> Any:
    try:
        from sklearn.feature_extraction.text import TfidfVectorizer
    except ImportError as error:
        raise missing_package("scikit-learn", "demix") from error
    return TfidfVectorizer(sublinear_tf=True, stop_words="english", **settings)
