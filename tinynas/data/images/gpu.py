"""Augmentation of whole batches in plain torch, for networks that train on a GPU: no image goes through the CPU.

``light`` is the same as on the CPU, from the same random numbers. ``wake-vision`` has the parts of the pipeline that matter and
that batches can do: crop, flip, color (without CLAHE), both blurs, affine, holes, and of the weather fog and shadow
(an even veil and a dark lower band in place of particles and polygons). Rain and sun flare, each 3.75 % of the images,
are left out. Everything runs on the device of the images, CPU included.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as functional
from numpy.typing import NDArray
from torch import Tensor

from tinynas.data.draws import uniforms
from tinynas.recipe import Augment, LightAugment, WakeVisionAugment

TensorAugmenter = Callable[[Tensor, int, NDArray[np.int64]], Tensor]
"""Changes uint8 images (B, H, W, C) in epoch e; the array holds each image's number in its split."""

LUMA = (0.299, 0.587, 0.114)
TAPS = 7
"""Side of the blur kernels: the pipeline's largest."""
DRAWS = 40
"""Random numbers of each image in the full pipeline, at least; and two for each hole."""


def make_gpu_augmenter(augment: Augment, height: int, width: int, channels: int, seed: int) -> TensorAugmenter:
    """The augmenter for uint8 tensors (B, H, W, C) of this shape. Deterministic in (seed, epoch, index)."""
    if augment.kind == "none":
        return lambda images, epoch, indices: images
    if augment.kind == "light":
        return _Light(augment.light, height, width, seed)
    return _Strong(augment.wake_vision, height, width, channels, seed)


class _Light:
    def __init__(self, settings: LightAugment, height: int, width: int, seed: int) -> None:
        self.strengths, self.height, self.width, self.seed = settings.strengths, height, width, seed

    def __call__(self, images: Tensor, epoch: int, indices: NDArray[np.int64]) -> Tensor:
        s = self.strengths
        # A few numbers an image are worked out here and sent at once: on a GPU each small step costs a launch, and `inv` waits for it.
        draw = torch.from_numpy(uniforms(self.seed, epoch, indices, 7)).to(torch.float32)
        signed = draw[:, 1:] * 2 - 1
        mirror = torch.where(draw[:, 0] < s.flip, -1.0, 1.0)
        matrix = _affine(
            mirror,
            signed[:, 0] * math.radians(s.rotate),
            1 + signed[:, 1] * s.zoom,
            signed[:, 2] * s.shift * self.width,
            signed[:, 3] * s.shift * self.height,
        )
        gain = 1 + signed[:, 4] * s.contrast
        offset = 128 * (1 - gain) + signed[:, 5] * s.brightness * 255
        sizes = (self.height, self.width)
        sent = torch.cat(
            [_grid_matrix(_about_centre(torch.linalg.inv(matrix), *sizes), *sizes).flatten(1), gain[:, None], offset[:, None]], 1
        )
        sent = sent.to(images.device, non_blocking=True)
        pixels = _at(_to_float(images), sent[:, :6].reshape(-1, 2, 3))
        return _to_uint8(pixels * sent[:, 6, None, None, None] + sent[:, 7, None, None, None])


class _Strong:
    def __init__(self, settings: WakeVisionAugment, height: int, width: int, channels: int, seed: int) -> None:
        self.settings, self.height, self.width, self.channels, self.seed = settings, height, width, channels, seed
        self.strengths = settings.strengths

    def __call__(self, images: Tensor, epoch: int, indices: NDArray[np.int64]) -> Tensor:
        s = self.settings
        draw = torch.from_numpy(uniforms(self.seed, epoch, indices, DRAWS + 2 * s.holes[1])).to(images.device, torch.float32)
        column = iter(draw.unbind(1))

        def u(low: float = 0.0, high: float = 1.0) -> Tensor:
            return low + (high - low) * next(column)

        pixels = self._crop(_to_float(images), u)
        pixels = self._color(pixels, u() < self.strengths.color, u)
        pixels = self._blur(pixels, u() < s.blur, u)
        apply = (u() < self.strengths.affine).to(pixels.dtype)
        matrix = _affine(
            torch.ones_like(apply),
            apply * math.radians(10) * u(-1, 1),
            1 + apply * u(-0.1, 0.1),
            apply * u(-0.05, 0.05) * self.width,
            apply * u(-0.05, 0.05) * self.height,
        )
        pixels = torch.where(apply[:, None, None, None] > 0, _warp(pixels, matrix), pixels)
        pixels = self._weather(pixels, u() < s.weather, u)
        pixels = self._holes(pixels, u() < s.dropout, u)
        return _to_uint8(pixels)

    def _crop(self, pixels: Tensor, u: Callable[..., Tensor]) -> Tensor:
        s = self.strengths
        area, log_ratio = u(*s.crop_scale), u(math.log(s.crop_ratio[0]), math.log(s.crop_ratio[1]))
        wide = (area * log_ratio.exp()).sqrt().clamp(max=1.0)
        high = (area / log_ratio.exp()).sqrt().clamp(max=1.0)
        left, top = u() * (1 - wide), u() * (1 - high)
        mirror = torch.where(u() < s.flip, -1.0, 1.0)
        # From an output pixel to the input: scaled into the window; the mirror turns the window around.
        matrix = torch.zeros(len(pixels), 2, 3, device=pixels.device)
        matrix[:, 0, 0], matrix[:, 1, 1] = wide * mirror, high
        middle_x, middle_y = (left + wide / 2) * self.width - 0.5, (top + high / 2) * self.height - 0.5
        matrix[:, 0, 2] = middle_x - matrix[:, 0, 0] * (self.width - 1) / 2
        matrix[:, 1, 2] = middle_y - matrix[:, 1, 1] * (self.height - 1) / 2
        return _sample(pixels, matrix)

    def _color(self, pixels: Tensor, apply: Tensor, u: Callable[..., Tensor]) -> Tensor:
        kind = u(0, 3).floor()
        brightness, contrast, saturation, turn = u(0.8, 1.2), u(0.8, 1.2), u(0.8, 1.2), u(-0.1, 0.1)
        offset, gain = u(-0.1, 0.1), u(0.9, 1.1)
        jitter = pixels * brightness[:, None, None, None]
        mean = _grey(jitter).mean((1, 2, 3), keepdim=True)
        jitter = (jitter - mean) * contrast[:, None, None, None] + mean
        if self.channels == 3:
            grey = _grey(jitter)
            jitter = (jitter - grey) * saturation[:, None, None, None] + grey
            jitter = _turn_hue(jitter, turn * 2 * math.pi)
        light = pixels * gain[:, None, None, None] + 255 * offset[:, None, None, None]
        flat = _grey(pixels).expand_as(pixels)
        changed = _choose(kind, jitter, light, flat)
        return torch.where(apply[:, None, None, None], changed, pixels).clamp(0, 255)

    def _blur(self, pixels: Tensor, apply: Tensor, u: Callable[..., Tensor]) -> Tensor:
        which, sigma, angle, length = u(), u(0.5, 3.0), u(0, math.pi), u(3, TAPS)
        axis = torch.arange(TAPS, device=pixels.device, dtype=pixels.dtype) - TAPS // 2
        y, x = torch.meshgrid(axis, axis, indexing="ij")
        x, y = x[None], y[None]
        gauss = torch.exp(-(x**2 + y**2) / (2 * sigma[:, None, None] ** 2))
        along = x * angle.cos()[:, None, None] + y * angle.sin()[:, None, None]
        across = -x * angle.sin()[:, None, None] + y * angle.cos()[:, None, None]
        line = (1 - across.abs()).clamp(min=0) * (along.abs() <= length[:, None, None] / 2)
        kernel = torch.where((which < 0.5)[:, None, None], gauss, line)
        identity = ((x == 0) & (y == 0)).to(pixels.dtype).expand_as(kernel)
        kernel = torch.where(apply[:, None, None], kernel / kernel.sum((1, 2), keepdim=True), identity)
        batch, channels, height, width = pixels.shape
        padded = functional.pad(pixels, (TAPS // 2,) * 4, mode="reflect").reshape(1, batch * channels, height + TAPS - 1, width + TAPS - 1)
        weights = kernel[:, None].repeat_interleave(channels, 0)
        return functional.conv2d(padded, weights, groups=batch * channels).reshape(pixels.shape)

    def _weather(self, pixels: Tensor, apply: Tensor, u: Callable[..., Tensor]) -> Tensor:
        kind, strength, edge, slope = u(0, 4).floor(), u(0.02, 0.12), u(0.5, 0.9), u(-0.3, 0.3)
        veil = pixels + (255 - pixels) * strength[:, None, None, None]
        rows = torch.linspace(0, 1, self.height, device=pixels.device)[None, :, None]
        columns = torch.linspace(-0.5, 0.5, self.width, device=pixels.device)[None, None, :]
        below = rows > edge[:, None, None] + slope[:, None, None] * columns
        shadow = torch.where(below[:, None], pixels * 0.5, pixels)
        changed = _choose(kind, veil, shadow, pixels, pixels)  # kinds 2 and 3 are rain and flare
        return torch.where(apply[:, None, None, None], changed, pixels)

    def _holes(self, pixels: Tensor, apply: Tensor, u: Callable[..., Tensor]) -> Tensor:
        s = self.settings
        side = min(self.height, self.width)
        low, high = (max(1, round(share * side)) for share in s.hole_size)
        count = u(s.holes[0], s.holes[1] + 1).floor()
        rows = torch.arange(self.height, device=pixels.device)[None, :, None]
        columns = torch.arange(self.width, device=pixels.device)[None, None, :]
        hole = torch.zeros(len(pixels), self.height, self.width, dtype=torch.bool, device=pixels.device)
        # Four numbers a hole from two draws each: the draws' low bits are as random as their high ones.
        for number in range(s.holes[1]):
            a, b = u(), u()
            c, d = (a * 4096) % 1.0, (b * 4096) % 1.0
            height, width = low + (c * (high + 1 - low)).floor(), low + (d * (high + 1 - low)).floor()
            top, left = (a * (self.height - height + 1)).floor(), (b * (self.width - width + 1)).floor()
            inside = (
                (rows >= top[:, None, None])
                & (rows < (top + height)[:, None, None])
                & (columns >= left[:, None, None])
                & (columns < (left + width)[:, None, None])
            )
            hole |= inside & (number < count)[:, None, None] & apply[:, None, None]
        return torch.where(hole[:, None], torch.zeros((), device=pixels.device), pixels)


# pieces ------------------------------------------------------------------------------------------------


def _to_float(images: Tensor) -> Tensor:
    return images.permute(0, 3, 1, 2).to(torch.float32)


def _to_uint8(pixels: Tensor) -> Tensor:
    return pixels.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def _affine(mirror: Tensor, angle: Tensor, scale: Tensor, shift_x: Tensor, shift_y: Tensor) -> Tensor:
    """(B, 3, 3) from input to output, in pixels from the centre: rotate, scale, mirror, shift."""
    matrix = torch.zeros(len(angle), 3, 3, device=angle.device)
    cos, sin = angle.cos() * scale, angle.sin() * scale
    matrix[:, 0, 0], matrix[:, 0, 1], matrix[:, 0, 2] = cos * mirror, -sin, shift_x
    matrix[:, 1, 0], matrix[:, 1, 1], matrix[:, 1, 2] = sin * mirror, cos, shift_y
    matrix[:, 2, 2] = 1
    return matrix


def _warp(pixels: Tensor, matrix: Tensor) -> Tensor:
    """``pixels`` (B, C, H, W) through (B, 3, 3) matrices from input to output, in pixels from the centre."""
    inverse, _ = torch.linalg.inv_ex(matrix)  # `inv` would wait for the GPU at each step to look at the errors
    return _sample(pixels, _about_centre(inverse, *pixels.shape[2:]))


def _about_centre(inverse: Tensor, height: int, width: int) -> Tensor:
    """(B, 2, 3) from output to input pixels, of (B, 3, 3) from output to input in pixels from the centre."""
    matrix = inverse[:, :2].clone()
    for row, middle in enumerate(((width - 1) / 2, (height - 1) / 2)):
        matrix[:, row, 2] += middle - inverse[:, row, 0] * ((width - 1) / 2) - inverse[:, row, 1] * ((height - 1) / 2)
    return matrix


def _sample(pixels: Tensor, matrix: Tensor) -> Tensor:
    """Bilinear, mirrored at the border pixels' centres as OpenCV's REFLECT_101; ``matrix`` (B, 2, 3) maps output pixels to input pixels."""
    return _at(pixels, _grid_matrix(matrix, *pixels.shape[2:]))


def _grid_matrix(matrix: Tensor, height: int, width: int) -> Tensor:
    """The (B, 2, 3) map between pixels as PyTorch wants it: between coordinates from -1 to 1 at the border pixels' centres."""
    across, down = max(1, width - 1) / 2, max(1, height - 1) / 2
    found = torch.empty_like(matrix)
    for row, half in enumerate((across, down)):
        found[:, row, 0] = matrix[:, row, 0] * (across / half)
        found[:, row, 1] = matrix[:, row, 1] * (down / half)
        found[:, row, 2] = (matrix[:, row, 0] * across + matrix[:, row, 1] * down + matrix[:, row, 2]) / half - 1
    return found


def _at(pixels: Tensor, matrix: Tensor) -> Tensor:
    grid = functional.affine_grid(matrix, list(pixels.shape), align_corners=True)
    return functional.grid_sample(pixels, grid, mode="bilinear", padding_mode="reflection", align_corners=True)


def _grey(pixels: Tensor) -> Tensor:
    if pixels.shape[1] == 1:
        return pixels
    weights = torch.tensor(LUMA, device=pixels.device).reshape(1, 3, 1, 1)
    return (pixels * weights).sum(1, keepdim=True)


def _turn_hue(pixels: Tensor, angle: Tensor) -> Tensor:
    """Hue turned by ``angle`` (B,): a rotation of the chroma plane (YIQ), which keeps the luma."""
    to_yiq = torch.tensor([[0.299, 0.587, 0.114], [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]], device=pixels.device)
    turn = torch.zeros(len(pixels), 3, 3, device=pixels.device)
    turn[:, 0, 0] = 1
    turn[:, 1, 1], turn[:, 1, 2] = angle.cos(), -angle.sin()
    turn[:, 2, 1], turn[:, 2, 2] = angle.sin(), angle.cos()
    matrix = torch.linalg.inv(to_yiq) @ turn @ to_yiq
    return torch.einsum("bij,bjhw->bihw", matrix, pixels)


def _choose(kind: Tensor, *options: Tensor) -> Tensor:
    result = options[-1]
    for number, option in enumerate(options[:-1]):
        result = torch.where((kind == number)[:, None, None, None], option, result)
    return result
