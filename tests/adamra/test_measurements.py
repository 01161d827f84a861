"""What the experiment measures: equal sizes, forced choices, honest pairs."""

import pytest
import torch

from workingpapers.adamra.encoder import AdaMRAEncoder
from workingpapers.adamra.experiment import CLAIMS, EXPERIMENT
from workingpapers.adamra.measurements import (
    VARIANTS,
    IdentityTask,
    VariantTask,
    check_identities,
    encoder_config,
    initial_model,
    train_variant,
)
from workingpapers.adamra.tasks import open_task
from workingpapers.foundation.training import count_parameters

TASK = VariantTask("digits-256", "multi-resolution", 3, 6, 4, 1e-3, 1, train=24, test=16)


def parameters(variant: str, dim: int = 32) -> int:
    task = VariantTask("digits-256", variant, 0, 1, 1, 1e-3, 0, dim=dim)
    return count_parameters(AdaMRAEncoder(encoder_config(task, open_task("digits-256"))))


@pytest.mark.parametrize("variant", VARIANTS)
def test_compared_networks_have_equally_many_parameters(variant: str) -> None:
    # To within half a hidden unit of each of the two feed-forward layers, and a head's choices.
    slack = 2 * (2 * 32 + 1) / 2
    if variant == "a choice a head":
        slack += 2 * 33 * 3
    assert abs(parameters(variant) - parameters("multi-resolution")) <= slack


def test_training_a_variant_repeats_bit_for_bit() -> None:
    first, second = train_variant(TASK), train_variant(TASK)
    for record in (first, second):
        for key in ("cpu_seconds", "examples_per_second", "peak_mb"):
            assert record.pop(key) > 0
    assert first == second
    assert 0 <= first["accuracy"] <= 1
    assert len(first["shares"]) == 2


def test_a_collapsed_network_reads_one_resolution() -> None:
    task = VariantTask("digits-256", "collapsed", 3, 2, 4, 1e-3, 1, train=8, test=8, forced=2)
    assert train_variant(task)["shares"] == [[0, 0, 1], [0, 0, 1]]


@pytest.mark.parametrize("variant", ["fixed", "single resolution", "vanilla"])
def test_networks_of_a_seed_begin_with_the_same_weights_where_shapes_allow(variant: str) -> None:
    source = open_task("digits-256")
    first, other = (
        initial_model(VariantTask("digits-256", name, 5, 1, 1, 1e-3, 0), source).state_dict()
        for name in ("multi-resolution", variant)
    )
    shared = [name for name in other if name in first and other[name].shape == first[name].shape]
    assert {"embedding.weight", "position", "classifier.weight"} <= set(shared)
    assert all(torch.equal(first[name], other[name]) for name in shared)


def test_identities_hold_to_rounding() -> None:
    found = check_identities(IdentityTask(1, 70))
    assert max(found["sorted"], found["padding"], found["step"]) < 1e-5
    assert found["state_growth"] == 0


def test_only_the_two_numbers_known_of_the_paper_stand_in_its_column() -> None:
    numbers = {claim.id: claim.reported for claim in CLAIMS if "+" in claim.reported}
    assert numbers == {
        "vanilla-equal-steps": "+4.32 on average over five tasks",
        "average-over-vanilla": "+4.32",
        "average-over-bigbird": "+4.89",
    }
    others = {claim.reported for claim in CLAIMS} - set(numbers.values())
    assert not any(character.isdigit() for text in others for character in text)


def test_a_third_of_the_papers_claims_are_judged_at_quick() -> None:
    paper = [claim for claim in EXPERIMENT.claims if claim.kind == "paper"]
    assert 3 * sum(claim.scale == "quick" for claim in paper) >= len(paper)
