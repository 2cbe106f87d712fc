"""One FusionDP step of the sepsis setting in PyTorch: torch.func per-sample gradients, vectorized clipping.

Public batch of 4,096 with dropout 0.1, Poisson batch of 128 expected units with the paired loss and the consistency term,
clipped to 1.8, Gaussian noise, SGD with projection of the weights to norm 10. Noise is drawn as float32 by PyTorch's default
generator, which is cheaper and weaker than exact discrete noise from a secure one.
"""

import torch
from torch import nn
from torch.func import functional_call, grad, vmap

import common

ALPHA, BETA, SCALE, RATE, MAX_NORM = 3.0, 0.5, 6.4, 0.07, 10.0
PRIVATE, PUBLIC = 128, 4_096


class Peer:
    """Model, records and step."""

    def __init__(self):
        self.model = common.network(dropout=0.1)
        self.params = [p for _, p in self.model.named_parameters()]
        # Without dropout, split into representation and logit; it shares the parameters of the model.
        self.plain = nn.Sequential(*[m for m in self.model if not isinstance(m, nn.Dropout)])
        self.body, self.head = self.plain[:-1], self.plain[-1]
        self.real, self.hybrid, self.labels = common.records()
        # The order of the parameters is that of the model: the body's, then the head's.
        self.per_unit = vmap(grad(self.unit_loss, argnums=(0, 1)), in_dims=(None, None, 0, 0, 0))

    def unit_loss(self, body, head, real, hybrid, label):
        h, h_hyb = functional_call(self.body, body, real), functional_call(self.body, body, hybrid)
        logit, logit_hyb = functional_call(self.head, head, h), functional_call(self.head, head, h_hyb)
        loss = nn.functional.binary_cross_entropy_with_logits
        pair = loss(logit.squeeze(-1), label) - loss(logit_hyb.squeeze(-1), label)
        return pair + BETA * ((h - h_hyb) ** 2).sum() / SCALE**2

    def private_gradient(self):
        rows = common.poisson(PRIVATE)
        body = {name: p.detach() for name, p in self.body.named_parameters()}
        head = {name: p.detach() for name, p in self.head.named_parameters()}
        of_body, of_head = self.per_unit(body, head, self.real[rows], self.hybrid[rows], self.labels[rows])
        grads = list(of_body.values()) + list(of_head.values())
        squares = torch.stack([(g.reshape(len(rows), -1) ** 2).sum(1) for g in grads]).sum(0)
        factors = (common.CLIP_NORM / (squares.sqrt() + 1e-6)).clamp(max=1.0)
        deviation = common.CLIP_NORM * common.NOISE_MULTIPLIER
        sums = [torch.tensordot(factors, g, dims=1) for g in grads]
        return [(s + torch.randn_like(s) * deviation) / PRIVATE for s in sums]

    def public_gradient(self):
        rows = torch.randperm(common.PATIENTS)[:PUBLIC]
        logits = self.model(self.hybrid[rows]).squeeze(1)
        loss = nn.functional.binary_cross_entropy_with_logits(logits, self.labels[rows])
        return torch.autograd.grad(loss, self.params)

    def step(self):
        public, private = self.public_gradient(), self.private_gradient()
        with torch.no_grad():
            for param, g_public, g_private in zip(self.params, public, private):
                param.sub_(g_public + ALPHA * g_private, alpha=RATE)
            norm = torch.stack([(p**2).sum() for p in self.params]).sum().sqrt()
            if norm > MAX_NORM:
                for param in self.params:
                    param.mul_(MAX_NORM / norm)


options = common.arguments(__doc__)
peer = Peer()
common.report_times("step/fusiondp", common.measure(peer.step, options.seconds), options.threads)
common.report_times("step/public", common.measure(peer.public_gradient, options.seconds / 2), options.threads)

# What the machine's matrix products reach in PyTorch, in single precision.
left, right = torch.rand(2, 1_024, 1_024)
times = common.measure(lambda: left @ right, 1.0)
common.report_times("matmul/1024", times, options.threads, flop=2 * 1_024**3)
