"""Adversarial sampling (Mayer & Timofte, WACV 2020), with a variational auto-encoder.

A generator of persons is searched for ones that are hard, by gradient ascent on its latent code
from a random start for each; then the nearest real person of the pool is picked, each once.

Otherwise than there: the generator makes embeddings and not images, and is a variational
auto-encoder and not a GAN, because a sampler is given a pool's embeddings, its images may be
elsewhere, and an auto-encoder of 128 numbers trains in seconds and does not collapse. Hardness is
a small network that learns the standing of the predicted loss from the embedding, because there is
no gradient of the pose net here; theirs is the entropy of the classifier itself. A code stays in
the cube where codes of the pool lie. Distances are those of the embeddings, as theirs of features.
The generator learns from the pool without the labelled: hardness is known on the pool alone.

Axes: B batch, D embedding, Q latent code, S searches.
"""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from misgiving.trainer.samplers.base import Candidates, Floats, riskiest
from misgiving.trainer.samplers.coreset import to_nearest

CODE, HIDDEN = 8, 128
BATCH, STEPS, RATE = 256, 500, 2e-3
"""Of each training: its time does not grow with the pool."""
NOISE = 0.1
"""Variance that the decoder leaves to each standardised number."""
SEARCH_STEPS, SEARCH_RATE = 30, 0.05
"""Longer climbs go where the pool has nobody, and all to one place."""
EDGE = 3.0
"""Largest absolute value of a code, in standard deviations of the prior."""


def adversarial(candidates: Candidates, budget: int, rng: np.random.Generator) -> list[int]:
    """``budget`` positions, in the order of the searches that found them.

    Raises:
        InvalidInput: fewer than ``budget`` persons have a finite predicted loss and embedding.
    """
    positions, standing, embedding = riskiest(candidates, budget, len(candidates))
    if not budget:
        return []
    hard = _hard_embeddings(embedding, standing, budget, int(rng.integers(2**31)))
    return [int(positions[i]) for i in nearest_each_once(embedding, hard)]


def nearest_each_once(embedding: Floats, wanted: Floats) -> list[int]:
    """For each of (S, D) rows in turn the nearest row of (N, D) that none took before."""
    picked: list[int] = []
    for row in wanted:
        distance = to_nearest(embedding, row[None])
        distance[picked] = np.inf
        picked.append(int(distance.argmin()))
    return picked


def _hard_embeddings(
    embedding: Floats, standing: NDArray[np.float64], count: int, seed: int
) -> NDArray[np.float64]:
    """``count`` made embeddings (S, D) that a network trained on the pool takes for hard ones."""
    mean = embedding.mean(axis=0, dtype=np.float64)
    spread = embedding.std(axis=0, dtype=np.float64)
    spread[spread == 0] = 1
    standard = torch.from_numpy(((embedding - mean) / spread).astype(np.float32))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        decoder = generator(standard)
        hardness = _hardness(standard, torch.from_numpy(standing.astype(np.float32)))
        made = searched(decoder, hardness, torch.randn(count, CODE))
    return np.asarray(made.numpy() * spread + mean)


def generator(rows: Tensor) -> nn.Module:
    """The decoder (B, Q) → (B, D) of an auto-encoder trained on (N, D) standardised embeddings."""
    encoder, decoder = _layers(rows.shape[1], 2 * CODE), _layers(CODE, rows.shape[1])

    def bound(batch: Tensor) -> Tensor:
        mean, log_variance = encoder(batch).chunk(2, dim=1)
        code = mean + torch.randn_like(mean) * (log_variance / 2).exp()
        error = (decoder(code) - batch).square().sum(1) / (2 * NOISE)
        divergence = (mean.square() + log_variance.exp() - 1 - log_variance).sum(1) / 2
        value: Tensor = (error + divergence).mean()
        return value

    _train([encoder, decoder], len(rows), lambda chosen: bound(rows[chosen]))
    return decoder


def _hardness(rows: Tensor, standing: Tensor) -> nn.Module:
    """A network (B, D) → (B, 1) that tells the standing of (N, D) embeddings."""
    network = _layers(rows.shape[1], 1)

    def error(chosen: Tensor) -> Tensor:
        value: Tensor = (network(rows[chosen])[:, 0] - standing[chosen]).square().mean()
        return value

    _train([network], len(rows), error)
    return network


def searched(decoder: nn.Module, hardness: nn.Module, codes: Tensor) -> Tensor:
    """What is made of (S, Q) codes after each climbed to where hardness is higher, (S, D)."""
    codes = codes.clamp(-EDGE, EDGE).requires_grad_()
    optimiser = torch.optim.Adam([codes], SEARCH_RATE)
    for _ in range(SEARCH_STEPS):
        optimiser.zero_grad()
        (-hardness(decoder(codes)).sum()).backward()  # each code has a gradient of its own
        optimiser.step()
        codes.data.clamp_(-EDGE, EDGE)
    made: Tensor = decoder(codes).detach()
    return made


def _layers(size: int, out: int) -> nn.Module:
    return nn.Sequential(nn.Linear(size, HIDDEN), nn.SiLU(), nn.Linear(HIDDEN, out))


def _train(networks: list[nn.Module], count: int, loss: Callable[[Tensor], Tensor]) -> None:
    """Minimise the loss of (B,) positions, drawn among ``count`` anew each step."""
    parameters = [parameter for network in networks for parameter in network.parameters()]
    optimiser = torch.optim.Adam(parameters, RATE)
    for _ in range(STEPS):
        optimiser.zero_grad()
        loss(torch.randint(count, (BATCH,))).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
