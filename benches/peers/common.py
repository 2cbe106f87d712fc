"""What the peers share: the network, synthetic records, timing, and the JSON lines that compare.py reads."""

import argparse
import json
import statistics
import time
import warnings

import torch
from torch import nn

PATIENTS, INPUTS = 14_293, 36
CLIP_NORM, NOISE_MULTIPLIER = 1.8, 1.04736


def arguments(description):
    """Options of every peer, with the threads set."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=5.0, help="seconds to measure, for each figure")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(1)
    warnings.filterwarnings("ignore", message="Full backward hook")
    return options


def network(dropout):
    """The sepsis network: mlp 36-64-128-64-1 with LayerNorm and exact GELU."""
    layers, width = [], INPUTS
    for out in (64, 128, 64):
        layers += [nn.Linear(width, out), nn.LayerNorm(out), nn.GELU()]
        if dropout > 0:
            layers.append(nn.Dropout(dropout))
        width = out
    return nn.Sequential(*layers, nn.Linear(width, 1))


def records():
    """Real view, hybrid view (the last six features replaced) and labels, one in ten positive."""
    real = torch.rand(PATIENTS, INPUTS) * 4 - 2
    hybrid = real.clone()
    hybrid[:, 30:] = torch.rand(PATIENTS, 6) * 4 - 2
    return real, hybrid, (torch.rand(PATIENTS) < 0.1).float()


def poisson(expected):
    """Rows of a Poisson sample, drawn with the fast generator: PyTorch's secure one would cost the peer more."""
    return (torch.rand(PATIENTS) < expected / PATIENTS).nonzero().squeeze(1)


def measure(step, seconds):
    """Warms up, then repeats for the given seconds, at least 20 times; milliseconds of wall clock and processor."""
    for _ in range(10):
        step()
    times, start = [], time.perf_counter()
    while len(times) < 20 or time.perf_counter() - start < seconds:
        wall, cpu = time.perf_counter(), time.process_time()
        step()
        times.append(((time.perf_counter() - wall) * 1e3, (time.process_time() - cpu) * 1e3))
    return times


def report(name, unit, value, threads, **detail):
    """Prints one measurement."""
    print(json.dumps({"name": name, "unit": unit, "value": value, "threads": threads, "detail": detail}), flush=True)


def report_times(name, times, threads, **detail):
    """Prints the median of milliseconds."""
    wall, cpu = (sorted(column) for column in zip(*times))
    detail |= {"cpu_value": statistics.median(cpu), "shortest_ms": wall[0], "p90_ms": wall[int(len(wall) * 0.9)]}
    report(name, "ms", statistics.median(wall), threads, **detail, repeats=len(wall))
