"""Medians, and how sure they are.

Proxies are compared by pairs: the ratio of two of them in one round, since what disturbs a round mostly disturbs both.
The interval of the median ratio is that of order statistics: between the k-th smallest and the k-th largest of n ratios
lies the true median with a probability that follows from the binomial distribution alone, whatever the ratios' own
distribution is. k is the largest that gives 95 % (7 rounds: the least and the greatest, 98.4 %); with fewer than 6
rounds even the extremes give less, and the interval says how much."""

import math
import statistics

median = statistics.median


def coverage(count, k):
    """Probability that the median lies between the k-th smallest and the k-th largest of `count` values."""
    return 1 - 2 * sum(math.comb(count, i) for i in range(k)) / 2**count


def interval(values, wanted=0.95):
    """(low, high, probability) of the median of `values`."""
    ordered = sorted(values)
    k = 1
    while 2 * (k + 1) <= len(ordered) and coverage(len(ordered), k + 1) >= wanted:
        k += 1
    return ordered[k - 1], ordered[-k], max(coverage(len(ordered), k), 0)


def meaning(rounds):
    return "%.1f %%" % (interval([0] * rounds)[2] * 100) if rounds > 1 else "none"


def compare(ours, theirs):
    """Of pairs of values, one for each round (None where a round failed)."""
    ratios = [a / b for a, b in zip(ours, theirs) if a is not None and b]
    if not ratios:
        return None
    low, high, probability = interval(ratios)
    interval_found = {"low": low, "high": high, "probability": round(probability, 4)}
    return {"median": median(ratios), **interval_found, "rounds": len(ratios)}


def known_median(values):
    known = [value for value in values if value is not None]
    return median(known) if known else None


def summary(load, rounds):
    """What is shown of a load: medians of every figure for every contender, ratios of ours to the others, failures."""
    names = list(rounds[0])
    columns = {name: {figure: [r[name].get(figure) for r in rounds] for figure in load.figures} for name in names}

    def ratios(ours):
        return {
            other: {figure: compare(columns[ours][figure], columns[other][figure]) for figure in load.figures}
            for other in names
            if other != ours
        }

    failed = {name: [r[name]["failed"] for r in rounds if "failed" in r[name]] for name in names}
    return {
        "median": {name: {f: known_median(values) for f, values in columns[name].items()} for name in names},
        "ratio": {name: ratios(name) for name in names if name.startswith("connpipe")},
        "failed": {name: why for name, why in failed.items() if why},
    }
