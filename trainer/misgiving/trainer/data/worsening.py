"""Worse pictures to train on: what fast, dark or cheap cameras give.

Axes: B batch, H W input px.
"""

import torch
from torch import Tensor
from torch.nn import functional

from misgiving.runtime import images as pictures

BLUR_PX = 3.0
"""Largest standard deviation, in px of the input."""
NOISE = 50.0
"""Largest standard deviation, of 255."""
DARK = 8.0
"""By which the light is divided at most."""
QUALITY = 70.0, 5.0
"""Of a JPEG file, best and worst."""
_REACH = 6
"""Of the blur, in px."""


def worsened(images: Tensor, share: float) -> Tensor:
    """A share of the images blurred, noisy, dark or compressed.

    Each by one of these, and as much as it happens.

    Args:
        images: (B, 3, H, W) in 0–255, changed in place.
        share: of them, in [0, 1]. Chance comes from torch's own generators.
    """
    hit, kind, strength = torch.rand(3, len(images)).to(images.device)
    changes = _blurred, _noisy, _dark, _compressed
    for number, change in enumerate(changes):
        rows = ((hit < share) & ((kind * len(changes)).long() == number)).nonzero()[:, 0]
        if len(rows):
            images[rows] = change(images[rows], strength[rows])
    return images.clamp_(0, 255)


def _blurred(images: Tensor, strength: Tensor) -> Tensor:
    """By a Gaussian of its own for each, the edge pixels drawn out."""
    x = torch.arange(-_REACH, _REACH + 1, device=images.device)
    sigma = (strength * BLUR_PX).clamp(min=1e-2)
    kernel = torch.exp(-(x**2) / (2 * sigma[:, None] ** 2))
    kernel = (kernel / kernel.sum(1, keepdim=True)).repeat_interleave(3, 0)[:, None]
    planes = functional.pad(images, [_REACH] * 4, mode="replicate").flatten(0, 1)[None]
    along = functional.conv2d(planes, kernel[..., None, :], groups=len(kernel))
    both = functional.conv2d(along, kernel[..., None], groups=len(kernel))
    return both.view_as(images)


def _noisy(images: Tensor, strength: Tensor) -> Tensor:
    return images + torch.randn_like(images) * (strength * NOISE)[:, None, None, None]


def _dark(images: Tensor, strength: Tensor) -> Tensor:
    """Rounded, as a camera does it."""
    light = DARK ** -strength[:, None, None, None]
    return (images * light).floor()


def _compressed(images: Tensor, strength: Tensor) -> Tensor:
    """To JPEG and back."""
    best, worst = QUALITY
    return torch.stack(
        [
            _through_jpeg(image, int(best + (worst - best) * part))
            for image, part in zip(images, strength.tolist(), strict=True)
        ]
    )


def _through_jpeg(image: Tensor, quality: int) -> Tensor:
    pixels = image.clamp(0, 255).to("cpu", torch.uint8).permute(1, 2, 0).contiguous().numpy()
    again = pictures.decode(pictures.encode_jpeg(pixels, quality))
    return torch.from_numpy(again).permute(2, 0, 1).to(image)
