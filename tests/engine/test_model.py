"""The weights file: what cannot be trusted or does not fit is refused in one line."""

from __future__ import annotations

import hashlib
import json
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from anymri.domain.task import GLIOMA
from anymri.engine.model import Model, WeightsHeader, read_model, with_settings, write_weights
from anymri.engine.run import Window
from anymri.errors import OutputError, UsageError, WeightsError
from anymri.methods import method_named

from ..material import made_batch, tiny


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "weights.safetensors"


def header(**changes: Any) -> WeightsHeader:
    settings = method_named("ccsd").config.sized("tiny").model_dump(mode="json")
    content = {"name": "w", "method": "ccsd", "config": settings, "task": "glioma", "window": Window(), **changes}
    return WeightsHeader.model_validate(content)


def write(path: Path, **changes: Any) -> None:
    write_weights(path, tiny("ccsd", GLIOMA).state_dict(), header(**changes))


def rewritten(path: Path, change: Callable[[dict[str, torch.Tensor], dict[str, Any]], None]) -> None:
    """Write the file anew with its tensors and its header changed."""
    with safe_open(path, framework="pt") as file:
        content = json.loads(file.metadata()["anymri"])
        tensors = {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118
    change(tensors, content)
    save_file(tensors, path, metadata={"anymri": json.dumps(content)})


def refused(path: Path, line: str, **options: Any) -> None:
    with pytest.raises(WeightsError) as caught:
        read_model(path, **options)
    message = str(caught.value)
    assert message.startswith(f"{path}: ") and line in message and "\n" not in message


def test_the_file_holds_half_precision_and_a_header(path: Path) -> None:
    write(path, training={"seed": 7})
    with safe_open(path, framework="pt") as file:
        assert {file.get_tensor(k).dtype for k in file.keys()} == {torch.float16}  # noqa: SIM118
        assert json.loads(file.metadata()["anymri"])["training"]["seed"] == 7
    model = read_model(path, sha256=hashlib.sha256(path.read_bytes()).hexdigest())
    assert model.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert all(p.dtype == torch.float32 for p in model.method.parameters())


def test_a_changed_file(path: Path) -> None:
    write(path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    refused(path, f"expected {digest}; the file was changed or damaged", sha256=digest)


@pytest.mark.parametrize("content", [pickle.dumps({"a": 1}), b"PK\x03\x04" + bytes(100), b"", b"x", bytes(8), b"{}" * 20])
def test_bytes_of_another_kind(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    refused(path, "not a safetensors file; pickled weights (.pt, .pth, .ckpt) are never loaded")


def test_a_pickle_is_never_opened(path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.write_text, (path.with_name("sprung"), "it was"))

    torch.save({"weights": Trap()}, path)
    refused(path, "never loaded")
    assert not path.with_name("sprung").exists()


def test_a_file_that_is_not_there(path: Path) -> None:
    refused(path, "weights cannot be read (No such file or directory)")
    path.mkdir()
    refused(path, "weights cannot be read (Is a directory)")


@pytest.mark.parametrize("share", [0.01, 0.3, 0.9, 0.999])
def test_a_torn_file(path: Path, share: float) -> None:
    write(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    refused(path, "safetensors file")


def test_a_header_that_claims_more_than_there_is(path: Path) -> None:
    path.write_bytes(struct.pack("<Q", 2**60) + b"{" + bytes(100))
    refused(path, "not a safetensors file")


def test_weights_of_another_program(path: Path) -> None:
    save_file({"a": torch.zeros(3)}, path)
    refused(path, "has no anymri header; these are weights of another program")


HEADERS: dict[str, tuple[dict[str, Any], str]] = {
    "format": ({"format": "anymri-weights/9"}, "format 'anymri-weights/9', expected anymri-weights/1; use the version"),
    "method": ({"method": "nothing"}, "method 'nothing' is unknown"),
    "task": ({"task": "heart"}, "task 'heart' is unknown"),
    "setting": ({"config": {"widths": "many"}}, "setting 'widths': "),
    "unknown setting": ({"config": {"colour": 1}}, "setting 'colour': Extra inputs are not permitted"),
    "field": ({"colour": 1}, "setting 'colour': Extra inputs are not permitted"),
    "window": ({"window": {"stride": 0}}, "setting 'window.stride': "),
    "window that does not fit": ({"window": {"stride": 2, "size": [16, 16, 15], "overlap": 0.5}}, "window (16, 16, 15)"),
    "size": ({"config": {"widths": [4, 8], "depths": [1, 1]}}, "the file does not fit its header"),
    # Refused by its shapes, before memory for it is taken.
    "absurd size": ({"config": {"widths": [40_000, 80_000], "depths": [1, 1]}}, "the file does not fit its header"),
    "options": ({"config": {"widths": [4, 6], "depths": [1, 1], "skips": "fused"}}, "the file does not fit its header"),
}


@pytest.mark.parametrize("case", HEADERS)
def test_a_header_that_does_not_fit(path: Path, case: str) -> None:
    changes, line = HEADERS[case]
    write(path)
    rewritten(path, lambda tensors, content: content.update(changes))
    refused(path, line)


@pytest.mark.parametrize("text", ["", "nonsense", "[]", "{}"])
def test_a_header_that_is_none(path: Path, text: str) -> None:
    save_file({"a": torch.zeros(3)}, path, metadata={"anymri": text})
    refused(path, "header does not fit this version of anymri")


def test_tensors_that_are_missing_added_or_not_finite(path: Path) -> None:
    write(path)
    name = "decoder.head.bias"
    rewritten(path, lambda tensors, content: tensors.pop(name))
    refused(path, f"tensor '{name}' has shape None, expected (4,)")
    write(path)
    rewritten(path, lambda tensors, content: tensors.update(extra=torch.zeros(2)))
    refused(path, "tensor 'extra' has shape (2,), expected None")
    write(path)
    rewritten(path, lambda tensors, content: tensors[name].fill_(torch.inf))
    refused(path, f"tensor '{name}' holds values that are not finite")


def test_a_place_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="weights cannot be written") as caught:
        write(tmp_path / "file" / "weights.safetensors")
    assert "\n" not in str(caught.value)
    (tmp_path / "weights.safetensors").mkdir()
    with pytest.raises(OutputError):
        write(tmp_path / "weights.safetensors")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "weights.safetensors"]


# The same weights under other settings


def gated(path: Path) -> Model:
    """Return AdaMM whose presence head holds every class to be absent."""
    method = tiny("adamm", GLIOMA)
    method.strip()
    state = {k: v.fill_(-9.0) if k == "student.presence.3.bias" else v for k, v in method.state_dict().items()}
    settings = method_named("adamm").config.sized("tiny").model_dump(mode="json")
    write_weights(path, state, header(method="adamm", config=settings))
    return read_model(path)


@torch.inference_mode()
def test_a_setting_that_changes_no_parameter_is_taken(path: Path) -> None:
    model, batch = gated(path), made_batch(GLIOMA, size=1)
    given = (batch.image_BMDHW, batch.present_BM, batch.origin_B3)
    ungated = with_settings(model, {**model.header.config, "gate": "off"})
    assert (model.called, ungated.called) == ("adamm", "adamm (gate=off)")
    assert ungated.header.config["gate"] == "off" and ungated.sha256 == model.sha256 and not ungated.method.training
    for (name, before), after in zip(model.method.state_dict().items(), ungated.method.state_dict().values(), strict=True):
        assert torch.equal(before, after), name
    closed, opened = model.method(*given), ungated.method(*given)
    assert (closed < -29).all() and (opened > -29).any()
    several = with_settings(model, {**model.header.config, "gate": "off", "dropout": 0.1, "lgrm": True})
    assert several.called == "adamm (dropout=0.1, gate=off)"
    assert with_settings(model, {"widths": [8, 8, 16], "depths": [1, 1, 2], "adapter_width": 4, "nodes": 3}).called == "adamm"


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (
            {"nodes": 4},
            r"^config.nodes: changes the parameters of .* \('student.*' from \(3, 16\) to \(4, 16\)\); finished",
        ),
        ({"lgrm": False}, r"^config.lgrm: changes the parameters of the network \('student.presence.*\) to None\); finished"),
        ({"gate": "shut"}, "^setting 'config': setting 'gate': Input should be 'window', 'case' or 'off'; found 'shut'$"),
        ({"gates": "off"}, "^setting 'config': setting 'gates': Extra inputs are not permitted; found 'off'$"),
        ({"adapters": False}, "^setting 'config': garm refines what the adapters make"),
    ],
)
def test_other_settings_are_refused_in_one_line(path: Path, change: dict[str, Any], line: str) -> None:
    model = gated(path)
    with pytest.raises(UsageError, match=line) as caught:
        with_settings(model, {**model.header.config, **change})
    assert "\n" not in str(caught.value)
