"""DP-SGD with Opacus (hooks, and ghost clipping) and plain SGD in PyTorch, on the sepsis network without dropout.

Batches are drawn from memory, as a Poisson sample, without the data loader that Opacus would put around them, and noise comes
from PyTorch's default generator: both are faster than what Opacus does in production.
"""

import torch
from opacus import GradSampleModule
from opacus.grad_sample import GradSampleModuleFastGradientClipping
from opacus.optimizers import DPOptimizer, DPOptimizerFastGradientClipping
from opacus.utils.fast_gradient_clipping_utils import DPLossFastGradientClipping
from torch import nn

import common

RATE = 0.07
LOSS = nn.functional.binary_cross_entropy_with_logits


def plain(batch, real, labels):
    """A step of SGD."""
    model = common.network(dropout=0.0)
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE)

    def step():
        rows = torch.randperm(common.PATIENTS)[:batch]
        optimizer.zero_grad()
        LOSS(model(real[rows]).squeeze(1), labels[rows]).backward()
        optimizer.step()

    return step


def hooks(batch, real, labels):
    """A step of Opacus as it comes: per-sample gradients by hooks."""
    model = GradSampleModule(common.network(dropout=0.0))
    optimizer = DPOptimizer(
        torch.optim.SGD(model.parameters(), lr=RATE),
        noise_multiplier=common.NOISE_MULTIPLIER,
        max_grad_norm=common.CLIP_NORM,
        expected_batch_size=batch,
    )

    def step():
        rows = common.poisson(batch)
        optimizer.zero_grad()
        LOSS(model(real[rows]).squeeze(1), labels[rows]).backward()
        optimizer.step()

    return step


def ghost(batch, real, labels):
    """A step of Opacus with ghost clipping: norms first, then a second backward pass with clipped weights."""
    model = GradSampleModuleFastGradientClipping(
        common.network(dropout=0.0), max_grad_norm=common.CLIP_NORM, use_ghost_clipping=True
    )
    optimizer = DPOptimizerFastGradientClipping(
        torch.optim.SGD(model.parameters(), lr=RATE),
        noise_multiplier=common.NOISE_MULTIPLIER,
        max_grad_norm=common.CLIP_NORM,
        expected_batch_size=batch,
    )
    loss = DPLossFastGradientClipping(model, optimizer, nn.BCEWithLogitsLoss(), loss_reduction="mean")

    def step():
        rows = common.poisson(batch)
        optimizer.zero_grad()
        # One logit per record: a second axis would be multiplied with the clipping factors to a square matrix.
        loss(model(real[rows]).squeeze(1), labels[rows]).backward()
        optimizer.step()

    return step


options = common.arguments(__doc__)
real, _, labels = common.records()
for batch in (128, 4_096):
    for name, make in [("sgd", plain), ("dp-sgd-hooks", hooks), ("dp-sgd-ghost", ghost)]:
        times = common.measure(make(batch, real, labels), options.seconds)
        common.report_times(f"{name}/{batch}", times, options.threads)
