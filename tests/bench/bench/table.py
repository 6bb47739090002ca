"""Results as text: Markdown tables that read well unrendered too."""

from .loads import TIMES
from .proxies import CONTENDERS

OURS = "connpipe"


def number(value):
    """Three digits that count."""
    if value is None:
        return "failed"
    if value >= 100:
        return "{:,.0f}".format(value)
    return "%.3g" % value if value < 10 else "%.1f" % value


def amount(load, figure, value):
    if value is None:
        return "failed"
    if figure == "memory":
        return number(value) + " B"
    if figure == "rate":
        return number(value) + (" GB/s" if load.unit == "GB" else "/s")
    if figure in ("cpu", "total"):
        return number(value) + (" ms" if load.unit == "GB" else " µs")
    return number(value) + " µs"


def part(value):
    return ("%.2f" if value >= 0.01 else "%.1g") % value


def ratio(found):
    if not found:
        return "-"
    if found["rounds"] < 2:
        return part(found["median"])
    return "%s [%s, %s]" % tuple(part(found[name]) for name in ("median", "low", "high"))


def grid(rows):
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    rule = ["-" * width for width in widths]
    lines = [[cell.ljust(width) for cell, width in zip(row, widths)] for row in (rows[0], rule, *rows[1:])]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def of_a(load):
    return ("an " if load.unit[0] in "aeiou" else "a ") + load.unit


def label(load, figure):
    if figure in ("cpu", "total"):
        return ("CPU " if figure == "cpu" else "CPU of the machine ") + of_a(load)
    return {"memory": "bytes " + of_a(load), "rate": "rate"}.get(figure, "p99")


def base(name):
    return CONTENDERS[name].variant_of or name


def columns(results):
    """Contenders that have a column. Variants are shown in that of their base, in rows of their own."""
    found = {base(name) for result in results.values() for name in result["median"]}
    return [name for name in CONTENDERS if name in found]


def casts(result):
    """For each row of a load, who stands in which column: first nobody's variant, then each variant for its base."""
    plain = {name: name for name in result["median"] if not CONTENDERS[name].variant_of}
    yield "", plain
    for name in result["median"]:
        contender = CONTENDERS[name]
        if contender.variant_of == OURS:
            yield " " + contender.label, {**plain, OURS: name}
        elif contender.variant_of:
            ours = {OURS: OURS} if OURS in plain else {}
            yield " " + contender.label, {**ours, contender.variant_of: name}


def rows_of(loads, results, figures_of):
    """(load, figure, words before the cells, result, cast) of each row; `figures_of` chooses a load's figures."""
    for name, result in results.items():
        for figure in figures_of(loads[name]):
            for suffix, cast in casts(result):
                yield loads[name], figure, [name + suffix, label(loads[name], figure)], result, cast


def main_figures(load):
    """What the load is about, and CPU."""
    return dict.fromkeys([load.figures[0], *(figure for figure in load.figures if figure == "cpu")])


def other_figures(load):
    return [figure for figure in load.figures if figure in ("rate", "total", TIMES[0])]


def main_table(loads, results):
    """The figures that loads are about, and ours in relation to the others'."""
    names = columns(results)
    others = [name for name in names if name != OURS] if OURS in names else []
    rows = [["load", "figure", *names, *("%s / %s" % (OURS, name) for name in others)]]
    for load, figure, words, result, cast in rows_of(loads, results, main_figures):
        values = [amount(load, figure, result["median"][cast[n]][figure]) if n in cast else "" for n in names]
        ratios = [ratio(result["ratio"][cast[OURS]][cast[n]][figure]) if n in cast else "" for n in others]
        rows.append([*words, *values, *ratios])
    return grid(rows)


def times(medians):
    values = [medians[figure] for figure in TIMES]
    return "failed" if None in values else " / ".join(map(number, values)) + " µs"


def other_table(loads, results):
    """Rates, latencies and the machine's processor time: medians only."""
    names = columns(results)
    rows = [["load", "figure", *names]]
    for load, figure, words, result, cast in rows_of(loads, results, other_figures):
        if figure == TIMES[0]:
            words[1] = "p50 / p99 / p99.9"
            cells = [times(result["median"][cast[n]]) if n in cast else "" for n in names]
        else:
            cells = [amount(load, figure, result["median"][cast[n]][figure]) if n in cast else "" for n in names]
        rows.append([*words, *cells])
    return grid(rows) if len(rows) > 1 else ""


def failures(results):
    lines = []
    for load, result in results.items():
        for name, reasons in result["failed"].items():
            lines.append("FAILED: %s through %s, %d of the rounds: %s" % (load, name, len(reasons), reasons[0]))
    return "\n".join(lines)
