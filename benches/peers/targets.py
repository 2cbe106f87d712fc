"""The rows of the table: which figures are set against each other, and what is asked of them."""

from dataclasses import dataclass


@dataclass
class Row:
    """One line of the table: what, ours, the peer's, ours in relation to it, the target, whether it is met."""

    what: str
    ours: str
    peer: str
    ratio: str
    target: str
    met: str


def rows(figures):
    """Every row whose figures were measured. `figures(side, name, threads)` is a value or None."""
    made = [
        *training(figures),
        *dp_sgd(figures),
        *imputation(figures),
        *scale(figures),
    ]
    return [row for row in made if row]


def faster(figures, what, name, peer_name, target, threads=1, unit="ms"):
    """Ours is to take less time than a peer's, by a factor."""
    ours, peer = figures("ours", name, threads), figures("peer", peer_name, threads)
    if ours is None or peer is None:
        return None
    ratio = ours / peer if unit == "rows/s" else peer / ours
    met = "" if target is None else verdict(ratio >= target)
    asked = "" if target is None else f"at least {target:g} times"
    return Row(what, show(ours, unit), show(peer, unit), f"{ratio:.2f}", asked, met)


def at_most(what, value, unit, limit):
    """A figure of ours that has a limit."""
    if value is None:
        return None
    return Row(what, show(value, unit), "", "", f"at most {show(limit, unit)}", verdict(value <= limit))


def at_least(what, value, unit, limit):
    """A figure of ours that has a floor."""
    if value is None:
        return None
    return Row(what, show(value, unit), "", "", f"at least {show(limit, unit)}", verdict(value >= limit))


def training(figures):
    for threads in (1, 2):
        suffix = "one thread" if threads == 1 else f"{threads} threads"
        yield faster(figures, f"FusionDP step, PyTorch vectorized, {suffix}", "step/fusiondp", "step/fusiondp", 6, threads)
        yield faster(figures, f"its public gradient, {suffix}", "step/public", "step/public", None, threads)
    one, two = figures("ours", "step/fusiondp", 1), figures("ours", "step/fusiondp", 2)
    if one and two:
        yield at_least("FusionDP step, two threads over one", one / two, "times", 1.7)
    public, product = figures("ours", "step/public", 1), figures("peer", "matmul/1024", 1)
    if public and product:
        rate, machine = public_flop() / (public * 1e6), 2 * 1_024**3 / (product * 1e6)
        what = "public gradient, GFLOP/s, against a matrix product of 1,024 in PyTorch"
        met = verdict(rate >= 0.5 * machine)
        yield Row(what, f"{rate:.0f}", f"{machine:.0f}", f"{rate / machine:.2f}", "at least 0.5", met)


def public_flop(rows=4_096, widths=(36, 64, 128, 64, 1)):
    """Operations of the matrix products of a public gradient: forward, by weights, and by inputs but for the first layer."""
    layers = sum(a * b for a, b in zip(widths, widths[1:]))
    return 2 * rows * (3 * layers - widths[0] * widths[1])


def dp_sgd(figures):
    for batch in (128, 4_096):
        yield faster(figures, f"DP-SGD, batch {batch:,}, Opacus ghost clipping", f"dp-sgd/{batch}", f"dp-sgd-ghost/{batch}", 5)
        yield faster(figures, f"DP-SGD, batch {batch:,}, Opacus default", f"dp-sgd/{batch}", f"dp-sgd-hooks/{batch}", 20)
        yield faster(figures, f"SGD without privacy, batch {batch:,}, PyTorch", f"sgd/{batch}", f"sgd/{batch}", None)
        private, plain = figures("ours", f"dp-sgd/{batch}", 1), figures("ours", f"sgd/{batch}", 1)
        if private and plain:
            yield at_most(f"DP-SGD over our own SGD, batch {batch:,}", private / plain, "times", 1.3)
    small, large = (figures("ours", f"dp-sgd/{batch}", 1, "peak_mib") for batch in (128, 4_096))
    if small and large:
        what = "memory of DP-SGD, batch 4,096 beyond batch 128 (a gradient per unit would take 305 MiB)"
        yield at_most(what, large - small, "MiB", 64)


def imputation(figures):
    for model in ("network", "boosting"):
        for threads in (1, 2):
            name, what = f"impute/{model}", f"ONNX imputation, {model}, threads: {threads}"
            yield faster(figures, what, name, name, 1, threads, unit="rows/s")


def scale(figures):
    rate = figures("ours", "federation/8-sites", None)
    yield at_least("8 sites, sepsis `split` study, durable ledgers", rate, "rounds/s", 20)
    sizes = [n for n in (125, 250, 500, 1_000) if figures("ours", f"sites/{n}", None)]
    for n in sizes:
        name = f"sites/{n}"
        per_site = figures("ours", name, None, "ms_per_site_and_round")
        peak = figures("ours", name, None, "peak_mib")
        what = f"{n:,} sites of 50 patients: {figures('ours', name, None):.2f} s a round, {per_site:.2f} ms a site; memory"
        yield at_most(what, peak, "MiB", 4_096)
    if len(sizes) > 1:
        small, large = (figures("ours", f"sites/{n}", None, "ms_per_site_and_round") for n in (sizes[0], sizes[-1]))
        yield at_most(f"time per site and round, {sizes[-1]:,} sites over {sizes[0]:,}", large / small, "times", 1.25)
        small, large = (figures("ours", f"sites/{n}", None, "cpu_ms_per_round") / n for n in (sizes[0], sizes[-1]))
        yield Row("the same by processor time", show(large / small, "times"), "", "", "", "")
    ratio = figures("ours", "rows/5000000", None)
    yield at_most("5,000,000 records of 37 columns: peak memory over dense f32", ratio, "times", 10)


def verdict(met):
    return "yes" if met else "**no**"


def show(value, unit):
    """Three digits and the unit."""
    if unit == "times":
        return f"{value:.3g}"
    return f"{value:,.0f} {unit}" if value >= 100 else f"{value:.3g} {unit}"
