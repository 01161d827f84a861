"""What the benchmark's contender of ours answers, against closed forms and plain arrays."""

import numpy as np
import pytest

import opengames as benchmark


def answer(case):
    contender = benchmark.ours()
    return contender.run(contender.setup(case))


def test_where_water_is_plenty_flooding_gains_three_halves_over_a_coin():
    assert answer("irrigation 8")["regret"] == pytest.approx(1.5)


def test_a_gift_of_five_costs_three_each():
    found = answer("public goods 5")
    assert found["regret"] == pytest.approx(0.6 * 5)
    assert found["nash conv"] == pytest.approx(5 * 0.6 * 5)


@pytest.mark.parametrize("levels", [8, 16])
def test_regret_of_random_bids_in_a_first_price_auction(levels):
    bids = np.arange(levels)
    # Against a random bid: what is below it, and half of what equals it.
    wins = (bids + 0.5) / levels
    worth = (bids[:, None] - bids) * wins
    gains = worth.max(axis=1) - worth.mean(axis=1)
    found = answer(f"auction {levels}")
    assert found["regret"] == pytest.approx(gains.max())
    assert found["nash conv"] == pytest.approx(2 * gains.mean())


def test_defection_in_the_first_round_gains_three_quarters_over_a_coin():
    # Defecting gives (5 + 1) / 2, cooperating (3 + 0) / 2; what follows is a coin's throw.
    assert answer("repeated dilemma 6")["regret"] == pytest.approx(0.75)


def test_regret_of_a_table_is_that_of_its_arrays():
    rows, columns = benchmark.random_tables(100)
    gains = [
        rows.mean(axis=1).max() - rows.mean(),
        columns.mean(axis=0).max() - columns.mean(),
    ]
    found = answer("bimatrix 100")
    assert found["regret"] == pytest.approx(max(gains))
    assert found["nash conv"] == pytest.approx(sum(gains))


@pytest.mark.parametrize(
    ("case", "count"),
    [
        # The first two farmers flood; 7, 5 and 2 units are never left, and of nothing all take all.
        ("irrigation 3 pure", 2**4),
        ("public goods 4 pure", 1),
    ],
)
def test_pure_equilibria_are_all_counted(case, count):
    assert answer(case)["equilibria"] == count


def test_cfr_plus_finds_the_value_of_kuhn_poker():
    found = answer("Kuhn poker cfr+")
    assert found["value"] == pytest.approx(-1 / 18, abs=5e-4)
    assert found["exploitability"] < 1e-3
