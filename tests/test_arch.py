"""Arch: identity, YAML and ProxylessNAS JSON both ways, refusals with all faults."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from test_cost import archs

from tinynas.arch import Arch, ConvLayer, MBConv, from_proxyless, load_arch
from tinynas.config import shipped
from tinynas.errors import ConfigError
from tinynas.graph import lower


def net_config() -> dict[str, Any]:
    return json.loads(shipped("zoo")["mcunet-tiny2"].read_text())  # type: ignore[no-any-return]


@pytest.mark.parametrize("name", sorted(shipped("zoo")))
def test_zoo_networks_load_and_can_be_built(name: str) -> None:
    arch = load_arch(name)
    assert arch.name == name
    assert lower(arch).classes == arch.classes


@settings(max_examples=60, deadline=None)
@given(archs())
def test_yaml_round_trip(arch: Arch) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "net.yaml"
        path.write_text(arch.to_yaml())
        again = load_arch(str(path))
    assert again.model_copy(update={"name": None}) == arch
    assert again.id == arch.id


def test_id_is_the_content_not_the_name() -> None:
    arch = load_arch("mcunet-tiny2")
    assert arch.model_copy(update={"name": "other"}).id == arch.id
    assert arch.with_classes(3).id != arch.id
    assert len(arch.id) == 10


def test_proxyless_json_keeps_its_meaning() -> None:
    document = net_config()
    last = document["blocks"][-1]["mobile_inverted_conv"]["out_channels"]
    document["feature_mix_layer"] = {**document["first_conv"], "in_channels": last, "out_channels": 96, "kernel_size": 1, "stride": 1}
    document["classifier"]["in_features"] = 96
    arch = from_proxyless(document)
    assert arch.head == ConvLayer(out=96, kernel=1, stride=1, act=document["first_conv"]["act_func"])
    first = document["first_conv"]
    assert arch.stem == ConvLayer(out=first["out_channels"], kernel=first["kernel_size"], stride=first["stride"], act=first["act_func"])
    assert (arch.height, arch.width, arch.classes) == (document["resolution"],) * 2 + (document["classifier"]["out_features"],)
    assert len(arch.blocks) == len(document["blocks"])
    for block, written in zip(arch.blocks, document["blocks"], strict=True):
        conv = written["mobile_inverted_conv"]
        assert isinstance(block, MBConv)
        assert (block.out, block.kernel, block.stride) == (conv["out_channels"], conv["kernel_size"], conv["stride"])
        assert (block.expand, block.mid, block.act) == (conv["expand_ratio"], conv["mid_channels"], conv["act_func"])
        assert block.residual == (written["shortcut"] is not None)


def test_mid_channels_override_the_ratio() -> None:
    document = net_config()
    document["blocks"][1]["mobile_inverted_conv"]["mid_channels"] = 40
    arch = from_proxyless(document)
    assert lower(arch).shape(lower(arch).ops[3].output)[-1] == 40


def test_blocks_that_a_search_skipped_are_left_out() -> None:
    document = net_config()
    skipped = {"name": "MobileInvertedResidualBlock", "mobile_inverted_conv": {"name": "ZeroLayer"}, "shortcut": {"name": "IdentityLayer"}}
    document["blocks"].insert(3, skipped)
    assert from_proxyless(document) == from_proxyless(net_config())
    skipped["shortcut"] = None
    with pytest.raises(ConfigError, match="nothing passes"):
        from_proxyless(document)


def changed(*path: Any, value: Any) -> dict[str, Any]:
    document = copy.deepcopy(net_config())
    node: Any = document
    for key in path[:-1]:
        node = node[key]
    node[path[-1]] = value
    return document


@pytest.mark.parametrize(
    ("document", "place"),
    [
        (changed("first_conv", value=None), "first_conv"),
        (changed("first_conv", "in_channels", value=4), "first_conv.in_channels"),
        (changed("first_conv", "act_func", value="h_swish"), "first_conv.act_func"),
        (changed("first_conv", "dilation", value=2), "first_conv.dilation"),
        (changed("blocks", value={}), "blocks"),
        (changed("blocks", 0, value=3), "blocks[0]"),
        (changed("blocks", 1, "mobile_inverted_conv", "in_channels", value=13), "blocks[1].mobile_inverted_conv.in_channels"),
        (changed("blocks", 1, "mobile_inverted_conv", "kernel_size", value=13), "blocks[1].mobile_inverted_conv.kernel_size"),
        (changed("blocks", 1, "mobile_inverted_conv", "use_se", value=True), "blocks[1].mobile_inverted_conv.use_se"),
        (changed("blocks", 1, "mobile_inverted_conv", "expand_ratio", value="3"), "blocks[1].mobile_inverted_conv.expand_ratio"),
        (changed("blocks", 1, "shortcut", value={"name": "IdentityLayer"}), "blocks[1].shortcut"),
        (changed("classifier", "in_features", value=41), "classifier.in_features"),
        (changed("resolution", value="48"), "resolution"),
        (changed("extra", value=1), "extra"),
    ],
)
def test_proxyless_faults_name_their_place(document: dict[str, Any], place: str) -> None:
    with pytest.raises(ConfigError) as caught:
        from_proxyless(document, source="net.json")
    assert any(fault.place.startswith(place) for fault in caught.value.faults)
    assert "net.json" in str(caught.value)


def test_proxyless_reports_all_faults_at_once() -> None:
    document = net_config()
    document["blocks"][0]["mobile_inverted_conv"]["kernel_size"] = 0
    document["classifier"]["out_features"] = -1
    document["resolution"] = None
    with pytest.raises(ConfigError) as caught:
        from_proxyless(document)
    assert len(caught.value.faults) == 3


def test_once_for_all_lists_and_rectangles() -> None:
    document = changed("first_conv", "kernel_size", value=[3, 3])
    document["resolution"] = [48, 64]
    arch = from_proxyless(document)
    assert (arch.height, arch.width) == (48, 64)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not valid JSON"),
        ("[]", "mapping"),
        ('{"first_conv": {}}', "faults"),
    ],
)
def test_broken_json_files(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "net.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        load_arch(str(path))


def test_yaml_faults_name_line_and_nearest_key(tmp_path: Path) -> None:
    path = tmp_path / "net.yaml"
    path.write_text("height: 32\nwidht: 32\nclasses: 0\nblocks:\n  - {kind: mbcnv, out: 8}\n")
    with pytest.raises(ConfigError) as caught:
        load_arch(str(path))
    text = str(caught.value)
    assert 'did you mean "width"' in text
    assert "line 3, classes" in text
    assert len(caught.value.faults) >= 3


def test_a_network_needs_a_layer() -> None:
    with pytest.raises(ValueError, match="at least one layer"):
        Arch(height=8, width=8, classes=2)


def test_a_residual_needs_stride_1() -> None:
    with pytest.raises(ValueError, match="stride 1"):
        Arch.model_validate(
            {"height": 8, "width": 8, "classes": 2, "blocks": [{"kind": "mbconv", "out": 3, "stride": 2, "residual": True}]}
        )


def test_unknown_names_suggest_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r'did you mean "mcunet-tiny2"'):
        load_arch("mcunet-tiny3")


def test_a_changed_copy_forgets_what_was_worked_out_before() -> None:
    arch = load_arch("mcunet-tiny2")
    before = arch.id, arch.input.shape, arch.block_names
    changed = arch.model_copy(update={"height": 32, "width": 20, "blocks": arch.blocks[:3], "stages": (1, 2)})
    assert changed.id == Arch.model_validate(changed.model_dump()).id != before[0]
    assert changed.input.shape == (32, 20, 3)
    assert changed.block_names == ("s0.b0", "s1.b0", "s1.b1")
    assert (arch.id, arch.input.shape, arch.block_names) == before
    assert arch.model_copy().id == arch.id
