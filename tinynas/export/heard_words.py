"""Words of a folder of sound that differ between networks that hear whole clips and those that take one frame at a time.

Both kinds have the same templates: ``hear.h`` and ``hear.c`` for either language, self-test, classifier and README in C. What differs in
the code are the parts ``heard_clip*`` and ``heard_frame*`` of ``templates/sound``, and what the self-test of a stream does further.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from tinynas.export.folder import fill, read_templates

#: How much of sound a network takes in one call.
Heard = Literal["clip", "frame"]
#: Templates of ``templates/sound`` that are parts of others begin so.
PARTS = ("heard_", "further_")
#: Word -> the part that it is, by what the network takes; words that are missing here are empty.
_CODE: dict[Heard, dict[str, str]] = {
    "clip": {
        "heard_fields": "heard_clip_fields.c",
        "heard_code": "heard_clip.c",
        "heard_api": "heard_clip_api.h",
        "hop_setting": "heard_clip_hop.h",
    },
    "frame": {
        "heard_fields": "heard_frame_fields.c",
        "heard_code": "heard_frame.c",
        "heard_api": "heard_frame_api.h",
        "further_heard": "further_heard.c",
        "further_declared": "further_declared.h",
        "further_defined": "further_defined.c",
    },
}
#: Words of which a template holds what follows in the same line or behind it: the end of their line is their own.
_WHOLE_LINES = frozenset({"hop_setting", "further_heard", "further_declared", "further_defined"})
_WORDS: dict[Heard, dict[str, str]] = {
    "clip": {
        "heard_line": "front end, ring of frames, network, answers averaged, and silence after one was told.",
        "heard_what": "ring of frames",
        "answers_note": "",
        "start_note": "Forgets everything heard.",
        "forget_line": "",
        "newest_index": "{GUARD}_FRAMES - 1",
        "further_note": "",
        "classifier_note": "The network over the ring of frames, and its scores; hear.h asks it.",
        "work_what": "work area",
        "kept_what": "frames",
        "outputs_what": "last clip",
        "network_note": "The work area, with the network's own functions: network.h.",
        "streams_note": "",
        "input_size": " (height x width x channels) | {input_height} x {input_width} x {input_channels}",
        "outputs_of": "",
        "over_ring": " over the ring",
        "silence_note": "In training each clip began in silence; here the noise's estimate runs on, as it should with a microphone that is "
        "always open.",
    },
    "frame": {
        "heard_line": "front end, network, answers averaged, and silence after one was told. Each frame is computed\n"
        " * once: front end and network keep what later frames need.",
        "heard_what": "frames",
        "answers_note": ", one every {GUARD}_EVERY frames",
        "start_note": "Begins in silence, and forgets everything heard: first of all. The first answer comes after {GUARD}_FIRST frames, "
        "a clip.",
        "forget_line": "  {ns}_forget();\n",
        "newest_index": "",
        "further_note": " * Then the network goes on without a reset for {self_test_further} frames, and its outputs are compared again.\n",
        "classifier_note": "The network and its scores; hear.h gives it the frames. Outputs are those of the last {GUARD}_FRAMES frames.",
        "work_what": "network with all that it keeps",
        "kept_what": "frame",
        "outputs_what": "newest outputs alone",
        "network_note": "The network with all that it keeps.",
        "streams_note": "\nThe network streams: each frame is computed once, and what later frames need is kept.\n",
        "input_size": " | one frame at a time, {input_width} x {input_channels}",
        "outputs_of": ", of the last {input_height} frames",
        "over_ring": "",
        "silence_note": "In training each clip began in silence. Here that holds for the first clip after `{ns}_hear_start` alone, whose "
        "answer is the model file's to\n  the bit. From then on the noise's estimate runs on, and convolutions see the frames before a "
        "clip where it had padding.",
    },
}
_EMPTY = dict.fromkeys({word for words in _CODE.values() for word in words}, "")


def heard_words(heard: Heard, words: Mapping[str, str]) -> dict[str, str]:
    """The words of a network that takes ``heard`` at once; ``words``: what the parts ask for, those of the whole folder."""
    texts = read_templates("sound")
    spelled = {**words, **{word: text.format(**words) for word, text in _WORDS[heard].items()}}
    parts = {word: fill(name, texts[name], spelled).decode() for word, name in _CODE[heard].items()}
    cut = {word: text if word in _WHOLE_LINES else text.rstrip("\n") for word, text in parts.items()}
    return {**{word: spelled[word] for word in _WORDS[heard]}, **_EMPTY, **cut}
