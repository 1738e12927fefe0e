"""Recipe: everything that decides how a network is trained, apart from the data and the seed. A record: it loads nothing heavy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, Tag, model_validator

from tinynas.config import Config

Probability = Annotated[float, Field(ge=0, le=1)]
Share = Annotated[float, Field(gt=0, le=1)]
Ratio = Annotated[float, Field(gt=0, le=10)]
Auto = Literal["auto"]
"""A strength that nobody gave: the usual one, unless a search or a full training finds that it changes labels of its data."""
_NUMBER, _AUTO, _WHICH = Tag("number"), Tag("auto"), Discriminator(lambda value: "auto" if value == "auto" else "number")
# One branch alone is judged, so that a wrong number gives one fault.
Chance = Annotated[Annotated[Probability, _NUMBER] | Annotated[Auto, _AUTO], _WHICH]
Strength = Annotated[Annotated[float, Field(ge=0, lt=1), _NUMBER] | Annotated[Auto, _AUTO], _WHICH]
Offset = Annotated[Annotated[float, Field(ge=0, le=1), _NUMBER] | Annotated[Auto, _AUTO], _WHICH]
Degrees = Annotated[Annotated[float, Field(ge=0, le=180), _NUMBER] | Annotated[Auto, _AUTO], _WHICH]
Shares = Annotated[Annotated[tuple[Share, Share], _NUMBER] | Annotated[Auto, _AUTO], _WHICH]
Ratios = Annotated[Annotated[tuple[Ratio, Ratio], _NUMBER] | Annotated[Auto, _AUTO], _WHICH]


@dataclass(frozen=True)
class LightStrengths:
    """The numbers of ``light``. As defaults: what ``auto`` stands for. Light changes of light: on person64, validation loss
    0.402 against 0.414 with twice the range."""

    flip: float = 0.5
    rotate: float = 10.0
    zoom: float = 0.15
    shift: float = 0.08
    brightness: float = 0.08
    contrast: float = 0.1


class LightAugment(Config):
    """Settings of ``light``: a mirror image, a small affine change and a change of light."""

    flip: Chance = "auto"
    """Probability of a mirror image; ``auto``: 0.5, and 0 where mirroring is found to change labels."""
    rotate: Degrees = "auto"
    """Largest rotation, in degrees, either way; ``auto``: 10, and half of it or 0 where that is found to change labels."""
    zoom: Strength = "auto"
    """Largest change of scale, as a share: 0.15, which is ``auto`` (as for rotation), is from 0.85 to 1.15."""
    shift: Strength = "auto"
    """Largest shift, as a share of the side; ``auto``: 0.08, as for rotation."""
    brightness: Offset = "auto"
    """Largest change of brightness, as a share of the full range; ``auto``: 0.08, as for rotation."""
    contrast: Strength = "auto"
    """Largest change of contrast, as a share, about mid grey; ``auto``: 0.1, as for rotation."""

    @property
    def strengths(self) -> LightStrengths:
        """The numbers, those of ``auto`` included."""
        return LightStrengths(**_given(self, LightStrengths()))


@dataclass(frozen=True)
class WakeVisionStrengths:
    """What of ``wake-vision`` may be ``auto``, in numbers. As defaults: what ``auto`` stands for, the entry's values."""

    crop_scale: tuple[float, float] = (0.8, 1.0)
    crop_ratio: tuple[float, float] = (0.75, 1.33)
    flip: float = 0.5
    color: float = 0.4
    affine: float = 0.2


class WakeVisionAugment(Config):
    """Settings of ``wake-vision``: the pipeline of the Wake Vision challenge entry mcunet-tiny2, step by step.

    The values are the entry's. Sizes it gives in pixels at its 48 px are shares of the side here, so that they scale.
    """

    crop_scale: Shares = "auto"
    """Share of the area a random crop keeps, from and to; it is resized back to the full size. ``auto``: 0.8 to 1, and half as much
    cut off, or nothing, where that is found to change labels."""
    crop_ratio: Ratios = "auto"
    """Aspect ratio of the crop of a square, from and to (of another shape: times its own); ``auto``: 0.75 to 1.33, as for the scale."""
    flip: Chance = "auto"
    """Probability of a mirror image; ``auto``: 0.5, and 0 where mirroring is found to change labels."""
    color: Chance = "auto"
    """Probability of one of: color jitter, brightness and contrast, grey, local contrast (CLAHE); ``auto``: 0.4, and 0 where that is found
    to change labels."""
    blur: Probability = 0.3
    """Probability of a Gaussian or motion blur with a kernel of 3 to 7 pixels."""
    affine: Chance = "auto"
    """Probability of a shift (5 %), scale (10 %) and rotation (10 degrees), mirrored at the border; ``auto``: 0.2, and 0 where that is
    found to change labels."""
    weather: Probability = 0.15
    """Probability of one of: drizzle, fog, shadows, sun flare."""
    dropout: Probability = 0.2
    """Probability of black holes."""
    holes: tuple[Annotated[int, Field(ge=1, le=64)], Annotated[int, Field(ge=1, le=64)]] = (4, 8)
    """Number of holes, from and to."""
    hole_size: tuple[Share, Share] = (8 / 48, 16 / 48)
    """Height and width of a hole as a share of the side, from and to: 8 to 16 px at 48 px."""
    flare_radius: Annotated[float, Field(gt=0, le=10)] = 400 / 224
    """Radius of the sun as a share of the side. The library's 400 px suit its usual 224 px; at 48 px they leave a white image."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        for name in ("crop_scale", "crop_ratio", "holes", "hole_size"):
            value = getattr(self, name)
            if value != "auto" and value[0] > value[1]:
                raise ValueError(f"{name}: {value[0]:g} is more than {value[1]:g}; write the smaller one first")
        return self

    @property
    def strengths(self) -> WakeVisionStrengths:
        """The numbers of what may be ``auto``."""
        return WakeVisionStrengths(**_given(self, WakeVisionStrengths()))


def _given(settings: Config, usual: LightStrengths | WakeVisionStrengths) -> dict[str, Any]:
    values = {name: getattr(settings, name) for name in vars(usual)}
    return {name: vars(usual)[name] if value == "auto" else value for name, value in values.items()}


class SoundAugment(Config):
    """What is done to training sounds. Samples are changed in a few variants, which are kept; features in every epoch anew.

    Spoken digits of speakers not heard before (benchmarks/sound_augment.py): 69 % as they are, 75 % with the usual changes, 72 % of these
    without a background, 75 % with masks on top, 77 % with mixup of 0.2; two seeds of one row are up to 11 points apart.
    """

    variants: Annotated[int, Field(ge=1, le=1000)] = 4
    """So many variants of the changed samples are made, each when it is first wanted; epoch e trains on variant e mod variants."""
    shift: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Largest shift in time, as a share of the clip, either way; what is left open is silent."""
    gain: Annotated[float, Field(ge=0, le=40)] = 6.0
    """Largest change of loudness in dB, either way."""
    background: Probability = 0.5
    """Probability of a background: the data's own recordings of noise, those of ``noise``, or else coloured noise."""
    snr: tuple[Annotated[float, Field(ge=-20, le=80)], Annotated[float, Field(ge=-20, le=80)]] = (5.0, 30.0)
    """How much louder than the background the sound is, in dB, from and to."""
    noise: Annotated[str, Field(min_length=1)] | None = None
    """A folder of recordings of noise."""
    echo: Probability = 0.2
    """Probability of a room: a dozen echoes that die away within 0.1 to 0.4 s."""
    time_masks: Annotated[int, Field(ge=0, le=10)] = 0
    """Stretches of time that are masked (SpecAugment)."""
    time_mask: Share = 0.15
    """The longest of them, as a share of the clip."""
    band_masks: Annotated[int, Field(ge=0, le=10)] = 0
    """Bands of frequencies that are masked; none of a cosine transform."""
    band_mask: Share = 0.15
    """The widest of them, as a share of all bands."""
    mixup: Annotated[float, Field(ge=0, le=10)] = 0.0
    """Two inputs and their labels are mixed, by a share from Beta(mixup, mixup); 0: not."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.snr[0] > self.snr[1]:
            raise ValueError(f"snr: {self.snr[0]:g} is more than {self.snr[1]:g}; write the smaller one first")
        return self

    def of_samples(self) -> SoundAugment:
        """The same with the usual values of all that does not change samples."""
        usual = SoundAugment()
        features = ("variants", "time_masks", "time_mask", "band_masks", "band_mask", "mixup")
        return self.model_copy(update={name: getattr(usual, name) for name in features})


class Augment(Config):
    """What is done to training inputs: to images by ``kind``, to sounds by ``sound`` unless ``kind`` is none."""

    kind: Literal["none", "light", "wake-vision"] = "light"
    """``none``; ``light`` for proxies (tens of thousands of images/s a core); ``wake-vision``, the strong pipeline of images."""
    sound: SoundAugment = SoundAugment()
    """Settings for sounds."""
    light: LightAugment = LightAugment()
    """Settings of ``light``."""
    wake_vision: WakeVisionAugment = WakeVisionAugment()
    """Settings of ``wake-vision``."""

    def settled(self) -> Augment:
        """The same in numbers: nothing is ``auto`` any more."""
        light, wake_vision = vars(self.light.strengths), vars(self.wake_vision.strengths)
        return self.changed(light=light, wake_vision=wake_vision)

    def changed(self, *, light: Mapping[str, Any] | None = None, wake_vision: Mapping[str, Any] | None = None) -> Augment:
        """The same with these settings of ``light`` and of ``wake-vision``."""
        given = {
            "light": self.light.model_copy(update=dict(light or {})),
            "wake_vision": self.wake_vision.model_copy(update=dict(wake_vision or {})),
        }
        return self.model_copy(update=given)


#: Images that a full training sees at least, one counted as often as it is seen. Steps decide, where images are few: 200 keyword clips
#: give 38 % of validation right after 600 steps of 64, 44 % after 2,000, 51 % after 6,000; 750 sounds of ESC-10 75, 73 and 78 %
#: (sparknet-c16, mean of the last ten of 60 epochs, one seed).
LEAST_IMAGES = 192_000


class Recipe(Config):
    """How to train. Proxy and full training differ by their recipe only."""

    epochs: Annotated[int, Field(ge=1, le=100_000)] = 60
    """Epochs of the whole schedule: passes over the training images (or over the subset), or ``epoch_images`` each."""
    batch_size: Annotated[int, Field(ge=2, le=65_536)] = 64
    """Images a step; shared by all processes of a distributed training."""
    optimizer: Literal["adamw", "sgd"] = "adamw"
    """AdamW, or SGD with Nesterov momentum 0.9."""
    lr: Annotated[float, Field(gt=0, le=100)] = 5e-3
    """Peak learning rate."""
    weight_decay: Annotated[float, Field(ge=0, le=10)] = 0.05
    """Weight decay of convolution and linear weights; batch norm and biases have none. AdamW's is decoupled."""
    warmup_epochs: Annotated[float, Field(ge=0)] = 2.0
    """Epochs of linear warm-up from 0 to the peak."""
    schedule: Literal["cosine", "constant"] = "constant"
    """After warm-up: a half cosine down to ``lr_end`` at the last step, or the peak throughout."""
    lr_end: Probability = 0.0
    """Where the half cosine ends, as a share of the peak."""
    loss: Literal["sce", "ce"] = "sce"
    """Symmetric cross entropy (arXiv 1908.06112) or plain cross entropy."""
    sce_alpha: Annotated[float, Field(ge=0, le=100)] = 1.0
    """Weight of the cross entropy in SCE."""
    sce_beta: Annotated[float, Field(ge=0, le=100)] = 0.1
    """Weight of the reverse cross entropy in SCE."""
    sce_clip: Annotated[float, Field(gt=0, lt=1)] = 1e-4
    """What log(0) of a label is clipped to, as a probability: the reverse cross entropy is at most -log(clip)."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the target spread evenly over the classes, in the cross entropy."""
    ema: Annotated[float, Field(ge=0, le=1000)] = 3.0
    """Horizon of the weights' exponential moving average, in epochs; 0 for none. Validation, best epoch and export use the average."""
    bn_images: Annotated[int, Field(ge=0)] = 1024
    """Training images on which batch norm's statistics of the averaged weights are measured before each validation; 0 averages them."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Dropout before the classifier."""
    augment: Augment = Augment()
    """What is done to training images."""
    subset: Annotated[int, Field(ge=0)] = 0
    """Train on this many images, the same for every network, stratified by class; 0 for all."""
    epoch_images: Annotated[int, Field(ge=0)] = 0
    """Images of an epoch, drawn anew each time; 0 for all. Smaller epochs are finer steps of fidelity over the same data, larger ones are
    several passes over it."""
    branches: Literal["none", "fold"] = "none"
    """``fold``: smaller convolutions, and the input, train beside each k x k one; folded into it, exactly, in all that is evaluated."""
    threads: Annotated[int, Field(ge=1, le=256)] = 1
    """CPU threads. One is the fastest per core; candidates are trained side by side instead. Results are bit-identical per value."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """bfloat16 autocasts the forward pass; for GPUs only (2.3 times slower on CPUs)."""
    qat_epochs: Annotated[int, Field(ge=0)] = 0
    """The last epochs train with int8 quantisation in the loop; 0 for none."""
    qat_lr: Annotated[float, Field(gt=0, le=100)] = 5e-4
    """Rate at which they begin; a half cosine takes it to 0."""
    few_bits_from: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the epochs in float after which weights of fewer than 8 bits are trained on their grids; 0: from the first on."""
    init: Annotated[str, Field(min_length=1)] | None = None
    """Whose weights the training begins with: a .tflite, .safetensors, a PyTorch state dict, RUN:ID or zoo:NAME; none: drawn at random."""
    init_pixels: str = "auto"
    """What the first layer of ``init`` reads where its file does not tell, as ``tinynas evaluate --pixels`` takes it."""
    freeze: Annotated[int, Field(ge=0)] | tuple[str, ...] = 0
    """What of ``init`` is not trained: the stem and the first N stages, or the parts of these names (stem, s0, s1.b0, head)."""
    old_lr: Annotated[float, Field(ge=0, le=1)] = 1.0
    """Rate of the layers that come from ``init``, as a share of that of the new ones."""
    teacher: Annotated[str, Field(min_length=1)] | None = None
    """A network whose answers are learnt beside the labels: a .tflite, RUN:ID or zoo:NAME."""
    teacher_pixels: str = "auto"
    """What the teacher reads where its file does not tell, as ``init_pixels``."""
    teacher_temperature: Annotated[float, Field(gt=0, le=100)] = 4.0
    """By which the logits of both are divided: the higher, the more counts how unlikely the unlikely classes are."""
    teacher_weight: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Share of the teacher in the loss; the rest is that of the labels."""

    @model_validator(mode="after")
    def _phases_fit(self) -> Self:
        if self.qat_epochs >= self.epochs:
            raise ValueError(f"qat_epochs {self.qat_epochs} leaves none of the {self.epochs} epochs for training in float")
        if self.init is None and (self.freeze or self.old_lr != 1.0):
            raise ValueError("freeze and old_lr are about the weights of init, and there is no init")
        if self.loss == "sce" and self.sce_alpha == 0 and self.sce_beta == 0:
            raise ValueError("sce_alpha and sce_beta are both 0: nothing is learnt")
        return self

    @classmethod
    def proxy(cls, **changes: Any) -> Self:
        """The search's recipe: constant rate, so that a training can be continued to any epoch and read at every one."""
        return cls(**{"epochs": 12, "schedule": "constant", "warmup_epochs": 0.5, "ema": 1.0, "bn_images": 512, **changes})

    @classmethod
    def full(cls, **changes: Any) -> Self:
        """The recipe of ``promote``."""
        return cls(**changes)

    def lengthened(self, inputs: int) -> Self:
        """The same for ``inputs`` training images: where they are few, an epoch is several passes over them (:data:`LEAST_IMAGES`)."""
        if self.epoch_images or self.subset or inputs * self.epochs >= LEAST_IMAGES:
            return self
        return self.model_copy(update={"epoch_images": -(-LEAST_IMAGES // self.epochs)})


#: What says how long a training is; said by a user, :meth:`Recipe.lengthened` is not asked.
LENGTH = frozenset({"epochs", "epoch_images", "subset"})


class Stop(Config):
    """When a training ends before its last epoch; whichever comes first."""

    patience: Annotated[int, Field(ge=1)] | None = None
    """So many epochs without a better validation accuracy."""
    accuracy: Share | None = None
    """This validation accuracy is reached."""

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.patience is None and self.accuracy is None:
            raise ValueError("says nothing: give patience, accuracy, or both")
        return self

    def reached(self, accuracies: Sequence[float]) -> bool:
        """Whether a training with these validation accuracies, one an epoch, ends here."""
        if not accuracies:
            return False
        if self.accuracy is not None and accuracies[-1] >= self.accuracy:
            return True
        best = max(range(len(accuracies)), key=lambda i: (accuracies[i], -i))
        return self.patience is not None and len(accuracies) - 1 - best >= self.patience
