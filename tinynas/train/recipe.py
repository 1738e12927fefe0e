"""Recipe: everything that decides how a network is trained, apart from the data and the seed."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from tinynas.config import Config
from tinynas.data.images.augment import Augment, LightAugment


class Recipe(Config):
    """How to train. Proxy and full training differ by their recipe only."""

    epochs: Annotated[int, Field(ge=1, le=100_000)] = 60
    """Epochs of the whole schedule, in passes over the training images (or over the subset)."""
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
    schedule: Literal["cosine", "constant"] = "cosine"
    """After warm-up: a half cosine down to 0 at the last step, or the peak throughout."""
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
    ema: Annotated[float, Field(ge=0, le=1000)] = 2.0
    """Horizon of the weights' exponential moving average, in epochs; 0 for none. Validation, best epoch and export use the average."""
    bn_images: Annotated[int, Field(ge=0)] = 1024
    """Training images on which batch norm's statistics of the averaged weights are measured before each validation; 0 averages them."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Dropout before the classifier."""
    augment: Augment = Augment(light=LightAugment(brightness=0.08, contrast=0.1))
    """What is done to training images. Light changes of light: validation loss 0.402 against 0.414 with twice the range."""
    subset: Annotated[int, Field(ge=0)] = 0
    """Train on this many images, the same for every network, stratified by class; 0 for all."""
    epoch_images: Annotated[int, Field(ge=0)] = 0
    """Images of an epoch, drawn anew each time; 0 for all. Smaller epochs are finer steps of fidelity over the same data."""
    threads: Annotated[int, Field(ge=1, le=256)] = 1
    """CPU threads. One is the fastest per core; candidates are trained side by side instead. Results are bit-identical per value."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """bfloat16 autocasts the forward pass; for GPUs only (2.3 times slower on CPUs)."""
    qat_epochs: Annotated[int, Field(ge=0)] = 0
    """The last epochs train with int8 quantisation in the loop; 0 for none."""
    qat_lr: Annotated[float, Field(gt=0, le=100)] = 5e-4
    """Rate at which they begin; a half cosine takes it to 0."""

    @model_validator(mode="after")
    def _phases_fit(self) -> Self:
        if self.qat_epochs >= self.epochs:
            raise ValueError(f"qat_epochs {self.qat_epochs} leaves none of the {self.epochs} epochs for training in float")
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
