"""Domains found in texts without labels."""

import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workingpapers.demix import discovery
from workingpapers.demix.discovery import DomainClusterer, balanced_centres, discover_domains
from workingpapers.foundation.errors import InputError

KINDS = ("river stone water bridge", "engine wheel brake motor", "flour butter sugar oven")


def texts(count: int, seed: int = 0) -> tuple[list[str], np.ndarray]:
    """Texts of three kinds of words, some common ones among them, and their kinds."""
    rng = np.random.default_rng(seed)
    kinds = rng.permutation(np.arange(count) % 3)
    found = [" ".join(rng.choice([*KINDS[kind].split(), "today"], 12)) for kind in kinds]
    return found, kinds


TEXTS, TRUE = texts(60)
CLUSTERER = discover_domains(TEXTS, 3, seed=0)


def test_kinds_of_texts_are_found() -> None:
    pairs = {(int(kind), int(label)) for kind, label in zip(TRUE, CLUSTERER.labels, strict=True)}
    assert len(pairs) == 3
    assert np.bincount(CLUSTERER.labels).tolist() == [20, 20, 20]
    for kind, label in pairs:
        assert set(CLUSTERER.terms(4)[label]) == set(KINDS[kind].split())
    assert CLUSTERER.clusters == 3


def test_new_texts_go_to_the_nearest_cluster() -> None:
    of_kind = dict(zip(TRUE.tolist(), CLUSTERER.labels.tolist(), strict=True))
    assert CLUSTERER.predict(["motor wheel wheel", "an oven"]).tolist() == [of_kind[1], of_kind[2]]
    # No word of it is known: it is as near to one as to another, but a weight it has.
    weights = CLUSTERER.weights(["unheard of"])
    assert np.isclose(weights.sum(), 1)


def test_weights_fall_with_the_squared_distance() -> None:
    some = TEXTS[:5]
    weights = CLUSTERER.weights(some, temperature=0.5)
    assert np.allclose(weights.sum(axis=1), 1)
    assert np.array_equal(weights.argmax(axis=1), CLUSTERER.predict(some))
    features = CLUSTERER._vectorizer.transform(some) @ CLUSTERER.components.T
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    squares = ((features[:, None] - CLUSTERER.centres) ** 2).sum(-1)
    expected = np.exp(-squares / 0.5)
    assert np.allclose(weights, expected / expected.sum(axis=1, keepdims=True))
    two = CLUSTERER.weights(some, temperature=0.5, top_k=2)
    assert ((two > 0).sum(axis=1) == 2).all()
    kept = np.where(two > 0, expected, 0)
    assert np.allclose(two, kept / kept.sum(axis=1, keepdims=True))
    # However cold, the weights are numbers.
    assert np.allclose(CLUSTERER.weights(some, temperature=1e-9).max(axis=1), 1)


def test_it_is_kept_as_numbers_and_words(tmp_path: Path) -> None:
    CLUSTERER.save(tmp_path / "clusters")
    names = {path.name for path in (tmp_path / "clusters").iterdir()}
    assert names == {"config.json", "clusters.safetensors"}
    again = DomainClusterer.load(tmp_path / "clusters")
    assert np.array_equal(again.labels, CLUSTERER.labels)
    assert np.array_equal(again.weights(TEXTS), CLUSTERER.weights(TEXTS))
    assert again.terms() == CLUSTERER.terms()
    with pytest.raises(InputError, match="clusters"):
        CLUSTERER.save(tmp_path / "clusters")


def test_the_same_seed_gives_the_same_clusters(monkeypatch: pytest.MonkeyPatch) -> None:
    # Samples smaller than the texts, as with many texts.
    monkeypatch.setattr(discovery, "_SAMPLE", 21)
    one, other = (discover_domains(TEXTS, 3, seed=4) for _ in range(2))
    assert np.array_equal(one.labels, other.labels)
    assert np.array_equal(one.centres, other.centres)
    assert np.bincount(one.labels).tolist() == [20, 20, 20]


@given(st.integers(1, 6), st.integers(1, 3), st.integers(0, 1000))
@settings(max_examples=40)
def test_assignments_are_the_best_balanced_ones(count: int, k: int, seed: int) -> None:
    costs = np.random.default_rng(seed).random((count, k))
    labels = discovery._assigned(costs)
    sizes = np.bincount(labels, minlength=k)
    assert sizes.max() - sizes.min() <= 1

    def total(chosen: tuple[int, ...]) -> float:
        return float(costs[np.arange(count), list(chosen)].sum())

    every = (
        chosen
        for chosen in itertools.product(range(k), repeat=count)
        if np.ptp(np.bincount(chosen, minlength=k)) <= 1
    )
    assert np.isclose(total(tuple(labels)), min(map(total, every)))


def test_equal_texts_do_no_harm() -> None:
    centres = balanced_centres(np.ones((8, 2)), 3, np.random.default_rng(0))
    assert np.array_equal(centres, np.ones((3, 2)))


@pytest.mark.parametrize(
    ("given_texts", "k", "expected"),
    [
        (TEXTS, 1, "k: expected at least 2 clusters, got 1"),
        (TEXTS[:5], 3, "texts: expected at least 6 for 3 clusters, got 5"),
        (["a"] * 9, 3, "texts: expected some words that occur in more than one text"),
    ],
)
def test_refusals(given_texts: list[str], k: int, expected: str) -> None:
    with pytest.raises(InputError) as error:
        discover_domains(given_texts, k)
    assert str(error.value) == expected


def test_settings_that_are_refused() -> None:
    with pytest.raises(InputError, match="temperature: expected a number above 0, got 0"):
        CLUSTERER.weights(TEXTS, temperature=0.0)
    with pytest.raises(InputError, match="top_k: expected 1 to 3, got 4"):
        CLUSTERER.weights(TEXTS, top_k=4)
