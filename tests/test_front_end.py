"""The parameters of a front end, and the networks that read what it makes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from tinynas.arch import Arch
from tinynas.front_end import FrontEnd


def arch(front_end: FrontEnd, **changes: object) -> Arch:
    height, width, channels = front_end.shape
    content = {"height": height, "width": width, "channels": channels, "classes": 4, "stem": {"out": 8}, "front_end": front_end, **changes}
    return Arch.model_validate(content)


def test_the_usual_front_end_makes_forty_nine_frames_of_forty() -> None:
    front_end = FrontEnd()  # one second, windows of 30 ms every 20: 1 + (1000 - 30) // 20
    assert (front_end.window, front_end.stride, front_end.fft_size, front_end.clip_samples) == (480, 320, 512, 16000)
    assert front_end.shape == (49, 40, 1) and front_end.model_copy(update={"layout": "series"}).shape == (49, 1, 40)
    assert front_end.model_copy(update={"kind": "mfcc"}).shape == (49, 10, 1)
    assert front_end.top_hz == 7500 and FrontEnd(sample_rate=8000).top_hz == 3750


@given(st.integers(5, 60), st.integers(1, 60), st.integers(60, 3000))
def test_every_frame_lies_within_the_clip_and_one_more_would_not(window: int, stride: int, clip: int) -> None:
    front_end = FrontEnd(window_ms=max(window, stride), stride_ms=stride, clip_ms=clip)
    last = (front_end.frames - 1) * front_end.stride + front_end.window
    assert last <= front_end.clip_samples < last + front_end.stride


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"stride_ms": 40}, "leaves gaps"),
        ({"clip_ms": 20}, "holds no window"),
        ({"high_hz": 8000}, "not below half the sample rate"),
        ({"low_hz": 7500}, "is not below"),
        ({"window_ms": 4, "stride_ms": 4, "bins": 30}, "30 bins of the 30 frequencies"),
        ({"kind": "mfcc", "bins": 9}, "there are no more than bins"),
        ({"sample_rate": 48000, "clip_ms": 60_000, "window_ms": 100, "stride_ms": 100}, None),
    ],
)
def test_what_cannot_be_is_refused(given: dict[str, object], said: str | None) -> None:
    if said is None:
        FrontEnd.model_validate(given)
        return
    with pytest.raises(ValidationError, match=said):
        FrontEnd.model_validate(given)


def test_a_network_of_sound_is_known_by_its_front_end() -> None:
    plain = arch(FrontEnd())
    assert plain.input.kind == "features" and plain.input.front_end == FrontEnd()
    assert plain.id == arch(FrontEnd(), input_kind="features").id
    assert plain.id != arch(FrontEnd(pcan=False)).id
    assert Arch.model_validate(plain.model_dump(mode="json")) == plain
    with pytest.raises(ValidationError, match="the front end makes 49x40x1"):
        arch(FrontEnd(), height=48)
    with pytest.raises(ValidationError, match="features, not gray"):
        arch(FrontEnd(), input_kind="gray")
