"""Scores that a referee asks for beside ours, all fitted on what a frozen pose net says.

They live beside the benchmark, and not in the package, until one of them beats ours. Each says what
it takes from its paper and what is simplified.

Axes: N persons, K joints, O outputs of a head. Points and lengths are in cells.
"""

from collections.abc import Mapping

import torch
from referee_facts import OURS, Facts, Views, similarity
from torch import Tensor, nn
from torch.nn import functional

from misgiving.runtime.keypoints import KeypointSet
from misgiving.trainer.config import FitConfig
from misgiving.trainer.heads.head_objectives import Miss
from misgiving.trainer.heads.loss_heads import Standardise

RIDGE = 1e-3
"""Of the mean variance, added to the diagonal: channels that never move have none."""
FLOOR = 1e-2
"""Added to a covariance's diagonal, so that it inverts, as in the code of TIC-TAC."""
EPOCHS, BATCH, RATE = 30, 64, 1e-3
UNUSED = FitConfig(epochs=1, continued_epochs=1)
"""The objective ``miss`` reads nothing of it."""


class Mahalanobis:
    """Distance to the training persons in feature space (Lee et al., NeurIPS 2018; the other score
    of arXiv 2603.15574).

    Simplified: there each class has a mean, and all one covariance. Poses have no classes, so there
    is one Gaussian; it is fitted on the embedding that a bundle gives, of the augmented persons.
    """

    def __init__(self, pooled: Tensor) -> None:
        self.mean = pooled.double().mean(0)
        covariance = torch.cov(pooled.double().T)
        ridge = RIDGE * covariance.diagonal().mean() * torch.eye(len(covariance))
        self.factor = torch.linalg.cholesky(covariance + ridge)

    def risk(self, facts: Facts) -> Tensor:
        """(N,): the squared distance."""
        apart = (facts.pooled.double() - self.mean).T
        white: Tensor = torch.linalg.solve_triangular(self.factor, apart, upper=False)
        return white.square().sum(0)


def layers(inputs: int, outputs: int) -> nn.Sequential:
    """Those of the head ``evidence``."""
    return nn.Sequential(
        Standardise(inputs),
        nn.Linear(inputs, 128),
        nn.ReLU(),
        nn.Dropout(0.3),
        nn.Linear(128, 64),
        nn.ReLU(),
        nn.Linear(64, outputs),
    )


class Learned:
    """A head like ``evidence`` with a target of its own, on what the pose net said once of some
    augmented views; ours sees a fresh one of each person in every epoch."""

    reads = "evidence"
    """The field of the facts that it sees."""
    astray = True
    """Whether it learns from crops that miss the person, too."""

    def __init__(self, views: Views, keypoints: KeypointSet, seed: int) -> None:
        self.keypoints = keypoints
        torch.manual_seed(seed)
        views = views if self.astray else views[~views.astray]
        self.start(views)
        self.head = layers(getattr(views.facts, self.reads).shape[1], self.outputs)
        self._fit(views)
        self.head.eval()

    def start(self, views: Views) -> None:
        """Look at the training views before the first step."""

    @property
    def outputs(self) -> int:
        """O, how many numbers the head gives for a person."""
        return len(self.keypoints)

    def loss(self, outputs: Tensor, views: Views) -> Tensor:
        """What the head is trained on: (N, O) → ()."""
        raise NotImplementedError

    def read(self, outputs: Tensor, facts: Facts) -> Tensor:
        """(N, O) → the risk, (N,)."""
        return 1 - torch.sigmoid(outputs).mean(1)

    @torch.no_grad()
    def risk(self, facts: Facts) -> Tensor:
        """(N,), higher is riskier."""
        return self.read(self.head(getattr(facts, self.reads)), facts)

    def _fit(self, views: Views) -> None:
        steps = len(views.points) // BATCH * EPOCHS
        optimiser = torch.optim.AdamW(self.head.parameters(), lr=RATE, weight_decay=1e-4)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimiser, RATE, steps, pct_start=0.05, cycle_momentum=False
        )
        for _ in range(EPOCHS):
            order = torch.randperm(len(views.points))
            for rows in order[: len(order) // BATCH * BATCH].view(-1, BATCH):
                batch = views[rows]
                optimiser.zero_grad()
                self.loss(self.head(getattr(batch.facts, self.reads)), batch).backward()  # type: ignore[no-untyped-call]
                optimiser.step()
                schedule.step()


class Missed(Learned):
    """Our own target on the very views and layers of the others: a control, which says what of a
    difference the target makes."""

    def start(self, views: Views) -> None:
        self.objective = Miss(OURS, self.keypoints, self.keypoints.names)

    def loss(self, outputs: Tensor, views: Views) -> Tensor:
        return self.objective.loss(outputs, views.truth(), UNUSED)

    def read(self, outputs: Tensor, facts: Facts) -> Tensor:
        return self.objective.risk(outputs, facts.cells)


class Rescoring(Learned):
    """CCNet (Gu, Chen, Yu & Yao, ICML 2024, arXiv 2311.17105): a small net behind a frozen one
    learns by squared error each joint's similarity (KS) to the truth, and a person's score is the
    mean. It reads the features that the heatmaps are read from, at each joint's own peak.

    Simplified: no visibility, as all joints of the training set are labelled; the similarity has
    one width for all joints, see SPREAD. Only the paper's abstract and introduction were at hand:
    the layers, and where they read, are ours.
    """

    reads = "local"

    def loss(self, outputs: Tensor, views: Views) -> Tensor:
        apart = torch.sigmoid(outputs) - similarity(views, self.keypoints)
        return masked_mean(apart.square(), views.labelled)


class Presence(Learned):
    """ProbPose (Purkrabek & Matas, CVPR 2025): the probability that a joint is in the crop at all,
    learnt by cross-entropy from crops that cut persons off, times the similarity that its map
    expects there (:func:`expected_similarity`).

    Simplified: no visibility and no error branch; the probability is as calibrated as cross-entropy
    makes it.
    """

    def loss(self, outputs: Tensor, views: Views) -> Tensor:
        inside = ((views.points >= 0) & (views.points < views.size)).all(-1).float()
        terms = functional.binary_cross_entropy_with_logits(outputs, inside, reduction="none")
        return masked_mean(terms, views.labelled)

    def read(self, outputs: Tensor, facts: Facts) -> Tensor:
        return 1 - (torch.sigmoid(outputs) * facts.expected).mean(1)


class Covariance(Learned):
    """TIC (Shukla, Salzmann & Alahi, TIC-TAC, ICML 2024): the covariance of all coordinates,
    k J Jᵀ + A Aᵀ, where J is the pose's gradient and the head gives k ≥ 0 and A; learnt by the
    Gaussian's likelihood. The risk is the logarithm of each joint's expected squared error, the
    trace of its own 2 × 2 block, mean over the joints.

    Simplified: no curvature term, which the authors' code leaves out on request, too; the gradient
    is by the features that the heatmaps are read from, not by the code in the middle of the net;
    the pose net stays as it is, where the paper trains mean and covariance together.
    """

    astray = False

    @property
    def outputs(self) -> int:
        return (2 * len(self.keypoints)) ** 2 + 1

    def start(self, views: Views) -> None:
        """Units: the error and the gradient are 1 on average."""
        squared = (views.facts.cells - views.points).square().mean(-1)
        self.scale = masked_mean(squared, views.labelled).sqrt()
        self.steepness = views.facts.gradient.diagonal(dim1=1, dim2=2).mean()

    def loss(self, outputs: Tensor, views: Views) -> Tensor:
        """Over the labelled joints: the others' rows are the identity's, their errors zero."""
        known = views.labelled.repeat_interleave(2, dim=1)
        apart = ((views.facts.cells - views.points) / self.scale).flatten(1)
        apart = torch.where(known, apart, 0.0)
        both = known[:, :, None] & known[:, None]
        whole = self.matrix(outputs, views.facts)
        factor = torch.linalg.cholesky(torch.where(both, whole, torch.eye(whole.shape[-1])))
        white = torch.linalg.solve_triangular(factor, apart[..., None], upper=False)
        half: Tensor = 0.5 * white.square().sum() + factor.diagonal(dim1=1, dim2=2).log().sum()
        return half / known.sum().clamp(min=1)

    def read(self, outputs: Tensor, facts: Facts) -> Tensor:
        variances = self.matrix(outputs, facts).diagonal(dim1=1, dim2=2)
        squared: Tensor = variances[:, ::2] + variances[:, 1::2]
        return squared.log().mean(1)

    def matrix(self, outputs: Tensor, facts: Facts) -> Tensor:
        """(N, O) → (N, 2K, 2K), in units of the mean squared error."""
        size = 2 * len(self.keypoints)
        eye = torch.eye(size)
        residual = eye + outputs[:, :-1].view(-1, size, size)
        steep = outputs[:, -1:, None].square() * facts.gradient / self.steepness
        covariance: Tensor = steep + residual @ residual.mT + FLOOR * eye
        return covariance


def masked_mean(terms: Tensor, known: Tensor) -> Tensor:
    """Over what is known; zero where nothing is."""
    mean: Tensor = torch.where(known, terms, 0.0).sum() / known.sum().clamp(min=1)
    return mean


LEARNED: dict[str, type[Learned]] = {
    "miss on the same views": Missed,
    "CCNet": Rescoring,
    "ProbPose": Presence,
    "TIC": Covariance,
}


def risks(
    views: Views, asked: Mapping[str, Facts], keypoints: KeypointSet, seed: int
) -> dict[str, dict[str, Tensor]]:
    """Fit every method on the views, and ask it about some sets: set → method → (N,)."""
    own = views.facts[~views.astray]
    methods = {name: method(views, keypoints, seed).risk for name, method in LEARNED.items()}
    methods["Mahalanobis"] = Mahalanobis(own.pooled).risk
    methods["energy"] = lambda facts: facts.energy
    methods["expected similarity"] = lambda facts: 1 - facts.expected.mean(1)
    return {
        title: {name: risk(facts) for name, risk in methods.items()}
        for title, facts in asked.items()
    }
