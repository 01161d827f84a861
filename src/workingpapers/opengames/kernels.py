"""The loops over merged transitions, compiled; `evaluate.py` holds the NumPy reference of each.

Everything is flat: stages one after another in `start`, `next`, `slot`, `probability`. `points` is
the last axis of payoffs and of profiles; a step of 0 says that one of the two is the same for all.
"""

import math
import typing

import numpy as np
from numba import njit


@typing.no_type_check
@njit(cache=True)
def forward(
    state_offset, tr_offset, start, nxt, probability, slot, pi, pi_step,
    idle_offset, idle, entry_column, entry_rows_offset, entry_rows, table, table_step,
    reach, totals,
):  # fmt: skip
    """Reach of every state, shape (states, points); totals of payoffs that decide nothing.

    All other payoffs are added up by `backward`, which reads them anyway.
    """
    points = reach.shape[1]
    n_stages = len(state_offset) - 2
    reach[0, :] = 1.0
    for t in range(n_stages):
        s0, s1 = state_offset[t], state_offset[t + 1]
        first = tr_offset[t]
        for s in range(s0, s1):
            for tr in range(start[s + t], start[s + t + 1]):
                target = s1 + nxt[tr]
                sl = slot[tr]
                for p in range(points):
                    chance = pi[sl, p * pi_step] if sl >= 0 else probability[tr]
                    flow = reach[s, p] * chance
                    reach[target, p] += flow
                    for e in range(idle_offset[t], idle_offset[t + 1]):
                        row = entry_rows[entry_rows_offset[idle[e]] + tr - first]
                        totals[entry_column[idle[e]], p] += flow * table[row, p * table_step]


@typing.no_type_check
@njit(cache=True)
def backward(
    state_offset, tr_offset, start, nxt, probability, slot, report_slot, owner, pi, pi_step,
    work_offset, work_column, work_next, work_out, work_own, width, entry_range, entry_of,
    entry_rows_offset, entry_rows, table, table_step, reach, weight, weight_step, values,
    values_next, numerator, totals,
):  # fmt: skip
    """Deviation payoffs of every decision in one pass from the last stage to the first.

    `numerator[report slot]` becomes the sum over states of weight times the player's expected
    payoff from that stage on, when the slot's action is taken there; `totals` each column's
    expected payoff.
    """
    points = numerator.shape[1]
    n_stages = len(state_offset) - 2
    own_value = np.empty(points)
    for t in range(n_stages - 1, -1, -1):
        s0, s1 = state_offset[t], state_offset[t + 1]
        first = tr_offset[t]
        k_now, k_next = width[t], width[t + 1]
        values[: (s1 - s0) * k_now, :] = 0.0
        for s in range(s0, s1):
            who = owner[s]
            for tr in range(start[s + t], start[s + t + 1]):
                sl = slot[tr]
                target = nxt[tr]
                own_value[:] = 0.0
                for w in range(work_offset[t], work_offset[t + 1]):
                    follow, out, column = work_next[w], work_out[w], work_column[w]
                    mine = who >= 0 and work_own[w, who]
                    for p in range(points):
                        paid = 0.0
                        for e in range(entry_range[w], entry_range[w + 1]):
                            place = entry_rows_offset[entry_of[e]] + tr - first
                            paid += table[entry_rows[place], p * table_step]
                        chance = pi[sl, p * pi_step] if sl >= 0 else probability[tr]
                        totals[column, p] += reach[s, p] * chance * paid
                        q = paid
                        if follow >= 0:
                            q += values_next[target * k_next + follow, p]
                        if out >= 0:
                            values[(s - s0) * k_now + out, p] += chance * q
                        if mine:
                            own_value[p] += q
                report = report_slot[tr]
                if report >= 0:
                    for p in range(points):
                        numerator[report, p] += weight[s, p * weight_step] * own_value[p]
        values, values_next = values_next, values


@typing.no_type_check
@njit(cache=True)
def backward_single(
    state_offset, tr_offset, start, nxt, probability, slot, report_slot, owner, pi,
    work_offset, work_column, work_next, work_out, work_own, width, entry_range, entry_of,
    entry_rows_offset, entry_rows, table, reach, weight, values, values_next, numerator, totals,
):  # fmt: skip
    """`backward` for one point, column by column, so that the innermost loop is short."""
    n_stages = len(state_offset) - 2
    for t in range(n_stages - 1, -1, -1):
        s0, s1 = state_offset[t], state_offset[t + 1]
        first = tr_offset[t]
        k_now, k_next = width[t], width[t + 1]
        values[: (s1 - s0) * k_now] = 0.0
        for w in range(work_offset[t], work_offset[t + 1]):
            follow, out = work_next[w], work_out[w]
            entries = entry_range[w + 1] - entry_range[w]
            place = entry_rows_offset[entry_of[entry_range[w]]] - first if entries else 0
            total = 0.0
            for s in range(s0, s1):
                who = owner[s]
                mine = who >= 0 and work_own[w, who]
                here, heavy, kept = reach[s], weight[s], 0.0
                for tr in range(start[s + t], start[s + t + 1]):
                    paid = 0.0
                    if entries:
                        paid = table[entry_rows[place + tr]]
                        for e in range(entry_range[w] + 1, entry_range[w + 1]):
                            paid += table[entry_rows[entry_rows_offset[entry_of[e]] + tr - first]]
                    sl = slot[tr]
                    chance = pi[sl] if sl >= 0 else probability[tr]
                    total += here * chance * paid
                    q = paid
                    if follow >= 0:
                        q += values_next[nxt[tr] * k_next + follow]
                    kept += chance * q
                    if mine:
                        report = report_slot[tr]
                        if report >= 0:
                            numerator[report] += heavy * q
                if out >= 0:
                    values[(s - s0) * k_now + out] = kept
            totals[work_column[w]] += total
        values, values_next = values_next, values


@typing.no_type_check
@njit(cache=True)
def counterfactual(
    state_offset, start, nxt, probability, slot, own_state, pi, stage_from, stage_to, reach,
):  # fmt: skip
    """Reach where one player's own choices count as certain; `reach` holds stage_from's states."""
    for t in range(stage_from, stage_to):
        base = state_offset[t + 1]
        for s in range(state_offset[t], state_offset[t + 1]):
            if reach[s] == 0.0:
                continue
            for tr in range(start[s + t], start[s + t + 1]):
                sl = slot[tr]
                if sl < 0:
                    chance = probability[tr]
                elif own_state[s]:
                    chance = 1.0
                else:
                    chance = pi[sl]
                reach[base + nxt[tr]] += reach[s] * chance


@typing.no_type_check
@njit(cache=True)
def best_response(
    state_offset, tr_offset, start, nxt, probability, slot, group, group_start, own_group, pi,
    pay_offset, pay, weight, stage_from, stage_to, values, values_next, numerator, choice,
):  # fmt: skip
    """A player's best-response values, last decision first; `pay` is his payoff a transition.

    `numerator` and `choice` hold, for his groups, the weighted value of every action and the
    action taken. The value of the first state of stage_from ends in the returned array.
    """
    for t in range(stage_to - 1, stage_from - 1, -1):
        s0, s1 = state_offset[t], state_offset[t + 1]
        first = tr_offset[t]
        paid = pay_offset[t]
        deciding = False
        for s in range(s0, s1):
            g = group[s]
            if g >= 0 and own_group[g]:
                deciding = True
                begin = start[s + t]
                for tr in range(begin, start[s + t + 1]):
                    q = values_next[nxt[tr]] if t + 1 < stage_to else 0.0
                    if paid >= 0:
                        q += pay[paid + tr - first]
                    numerator[group_start[g] + tr - begin] += weight[s] * q
        if deciding:
            for s in range(s0, s1):
                g = group[s]
                if g >= 0 and own_group[g] and choice[g] < 0:
                    best = 0
                    for a in range(1, group_start[g + 1] - group_start[g]):
                        if numerator[group_start[g] + a] > numerator[group_start[g] + best]:
                            best = a
                    choice[g] = best
        for s in range(s0, s1):
            g = group[s]
            begin, end = start[s + t], start[s + t + 1]
            total = 0.0
            if g >= 0 and own_group[g]:
                begin += choice[g]
                end = begin + 1
            for tr in range(begin, end):
                q = values_next[nxt[tr]] if t + 1 < stage_to else 0.0
                if paid >= 0:
                    q += pay[paid + tr - first]
                if g >= 0 and own_group[g]:
                    total += q
                elif slot[tr] >= 0:
                    total += pi[slot[tr]] * q
                else:
                    total += probability[tr] * q
            values[s - s0] = total
        values, values_next = values_next, values
    return values_next


@typing.no_type_check
@njit(cache=True)
def lexicographic(
    state_offset, start, nxt, probability, slot, actions_at, pi, order, weight, exponent,
):  # fmt: skip
    """Reach under vanishing uniform trembles: the order of smallness and its factor.

    A choice of probability zero is made with probability ε/|A|: it adds 1 to the order. The factor
    is weight times two to the exponent, since a long way of trembles would leave the floats.
    """
    big = 1 << 60
    order[:] = big
    weight[:] = 0.0
    exponent[:] = 0
    order[0] = 0
    weight[0] = 1.0
    n_stages = len(state_offset) - 2
    for t in range(n_stages):
        s0, s1, s2 = state_offset[t], state_offset[t + 1], state_offset[t + 2]
        for s in range(s0, s1):
            for tr in range(start[s + t], start[s + t + 1]):
                sl = slot[tr]
                o, c, e = order[s], weight[s], exponent[s]
                if sl < 0:
                    c *= probability[tr]
                elif pi[sl] > 0.0:
                    c *= pi[sl]
                else:
                    o += 1
                    c /= actions_at[sl]
                target = s1 + nxt[tr]
                if o < order[target]:
                    order[target] = o
                    weight[target] = c
                    exponent[target] = e
                elif o == order[target]:
                    most = max(e, exponent[target])
                    weight[target] = math.ldexp(weight[target], exponent[target] - most)
                    weight[target] += math.ldexp(c, e - most)
                    exponent[target] = most
        for s in range(s1, s2):
            weight[s], shift = math.frexp(weight[s])
            exponent[s] += shift


@typing.no_type_check
@njit(cache=True)
def recall_clash(
    state_offset, start, nxt, slot, group, own_group, group_history, history, stage_to,
):  # fmt: skip
    """The first group where a player does not know what he saw and did; -1 if he always does.

    `history[state]` numbers the player's own past there: 0 none yet, -1 not reached, -2 not one.
    """
    history[:] = -1
    history[0] = 0
    for t in range(stage_to):
        base = state_offset[t + 1]
        for s in range(state_offset[t], state_offset[t + 1]):
            past = history[s]
            if past == -1:
                continue
            g = group[s]
            own = g >= 0 and own_group[g]
            if own:
                if past == -2 or (group_history[g] != -1 and group_history[g] != past):
                    return g
                group_history[g] = past
            for tr in range(start[s + t], start[s + t + 1]):
                # A slot names decision, observation and action, and through perfect recall all
                # that came before.
                mine = slot[tr] + 1 if own else past
                target = base + nxt[tr]
                if history[target] == -1:
                    history[target] = mine
                elif history[target] != mine:
                    history[target] = -2
    return -1


@typing.no_type_check
@njit(cache=True)
def sample_stage(start, nxt, cumulative, state, uniform, chosen):
    """Move each play along one transition of its state; `chosen` gets the transition."""
    for i in range(len(state)):
        s = state[i]
        tr = start[s]
        last = start[s + 1] - 1
        while tr < last and uniform[i] >= cumulative[tr]:
            tr += 1
        chosen[i] = tr
        state[i] = nxt[tr]


@typing.no_type_check
@njit(cache=True)
def own_reach(state_offset, start, nxt, slot, own_slot, pi, reach):
    """How far one player's own choices allow each state, whatever the others and nature do.

    With perfect recall all ways to a state where he decides have the same product of his own
    probabilities; where ways differ, the largest is kept.
    """
    reach[:] = 0.0
    reach[0] = 1.0
    for t in range(len(state_offset) - 2):
        base = state_offset[t + 1]
        for s in range(state_offset[t], state_offset[t + 1]):
            for tr in range(start[s + t], start[s + t + 1]):
                sl = slot[tr]
                allowed = reach[s] * pi[sl] if sl >= 0 and own_slot[sl] else reach[s]
                target = base + nxt[tr]
                if allowed > reach[target]:
                    reach[target] = allowed


@typing.no_type_check
@njit(cache=True)
def regret_matching(
    state_offset, start, nxt, probability, slot, owner, group, group_start, group_player,
    report_to_slot, pay, pi, regret, total, first_iteration, last_iteration, clip, linear_regret,
    linear_average,
):  # fmt: skip
    """Counterfactual regret minimisation, players in turn; changes `pi`, `regret` and `total`.

    `pay[player, transition]` is what a transition pays. `total` collects the strategies of all
    iterations, weighted by their player's own reach.
    """
    n_stages = len(state_offset) - 2
    n_states = state_offset[-1]
    others = np.empty(n_states)
    own = np.empty(n_states)
    value = np.empty(n_states)
    numerator = np.zeros(len(pi))
    own_at = np.zeros(len(group_player))
    for iteration in range(first_iteration, last_iteration):
        step = iteration + 1.0
        for player in range(pay.shape[0]):
            others[:] = 0.0
            own[:] = 0.0
            own_at[:] = 0.0
            others[0] = own[0] = 1.0
            for t in range(n_stages):
                base = state_offset[t + 1]
                for s in range(state_offset[t], base):
                    mine = owner[s] == player
                    if mine and own[s] > own_at[group[s]]:
                        own_at[group[s]] = own[s]
                    for tr in range(start[s + t], start[s + t + 1]):
                        sl = slot[tr]
                        target = base + nxt[tr]
                        allowed = own[s]
                        if sl < 0:
                            others[target] += others[s] * probability[tr]
                        elif mine:
                            others[target] += others[s]
                            allowed *= pi[sl]
                        else:
                            others[target] += others[s] * pi[sl]
                        if allowed > own[target]:
                            own[target] = allowed
            value[state_offset[n_stages] :] = 0.0
            for t in range(n_stages - 1, -1, -1):
                base = state_offset[t + 1]
                for s in range(state_offset[t], base):
                    mine = owner[s] == player
                    worth = 0.0
                    for tr in range(start[s + t], start[s + t + 1]):
                        sl = slot[tr]
                        q = pay[player, tr] + value[base + nxt[tr]]
                        if sl < 0:
                            worth += probability[tr] * q
                        else:
                            worth += pi[sl] * q
                            if mine:
                                numerator[sl] += others[s] * q
                    value[s] = worth
            for g in range(len(group_player)):
                if group_player[g] != player:
                    continue
                size = group_start[g + 1] - group_start[g]
                first = report_to_slot[group_start[g]]
                mean = 0.0
                for a in range(first, first + size):
                    mean += pi[a] * numerator[a]
                positive = 0.0
                for a in range(first, first + size):
                    gain = numerator[a] - mean
                    regret[a] += step * gain if linear_regret else gain
                    if clip and regret[a] < 0.0:
                        regret[a] = 0.0
                    if regret[a] > 0.0:
                        positive += regret[a]
                    total[a] += own_at[g] * pi[a] * (step if linear_average else 1.0)
                    numerator[a] = 0.0
                for a in range(first, first + size):
                    if positive > 0.0:
                        pi[a] = max(regret[a], 0.0) / positive
                    else:
                        pi[a] = 1.0 / size
