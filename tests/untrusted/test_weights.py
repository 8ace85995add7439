"""Files from strangers: none of their code runs, none of their claims is believed, and each refusal says why."""

import io
import os
import pickle
import struct
import subprocess
import sys
import zipfile
from collections import OrderedDict

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save as safetensors_bytes
from safetensors.torch import save_file

from qface_toolkit.errors import CheckpointError, QFaceError
from qface_toolkit.models import load_model
from qface_toolkit.untrusted._claims import read_claims
from qface_toolkit.untrusted.weights import open_checkpoint, read_weights

TERABYTE = 1 << 40


class Evil:
    """A pickle that runs a command when it is loaded."""

    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


def refuse(path, match):
    with pytest.raises(CheckpointError, match=match) as caught:
        load_model(path)
    assert caught.value.where == str(path)
    assert caught.value.fix
    return str(caught.value)


def rewrite(source, target, change, compression=zipfile.ZIP_STORED):
    """Copy a zip archive, each record's bytes through `change(name, bytes)`."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", compression) as new:
        for name in old.namelist():
            new.writestr(name, change(name, old.read(name)))
    return target


def test_missing_file(tmp_path):
    refuse(tmp_path / "none.pth", "no such checkpoint")


def test_directory(tmp_path):
    refuse(tmp_path, "and no checkpoint")


def test_empty_file(tmp_path):
    (tmp_path / "w.pth").touch()
    refuse(tmp_path / "w.pth", "empty")


@pytest.mark.parametrize("content", [b"hello, I am a text\n" * 9, b"\x00" * 100, b"PK", b"{}", b"\x89PNG\r\n\x1a\n"])
@pytest.mark.parametrize("name", ["w.pth", "w.safetensors", "w"])
def test_something_else(content, name, tmp_path):
    (tmp_path / name).write_bytes(content)
    refuse(tmp_path / name, "not a checkpoint|damaged")


def test_device_is_not_read():
    refuse("/dev/zero", "and no checkpoint")


def test_huge_sparse_file(tmp_path):
    with (tmp_path / "w.pth").open("wb") as stream:
        stream.truncate(1 << 36)
    refuse(tmp_path / "w.pth", "larger than 8589934592 bytes")


@pytest.mark.parametrize("legacy", [False, True])
def test_pickled_module(legacy, tmp_path):
    torch.save(torch.nn.Linear(2, 2), tmp_path / "w.pth", _use_new_zipfile_serialization=not legacy)
    text = refuse(tmp_path / "w.pth", "never loaded: .*torch.nn.modules.linear Linear")
    assert "torch.save(model.state_dict()" in text


@pytest.mark.parametrize("legacy", [False, True])
def test_malicious_pickle_does_not_run(legacy, tmp_path):
    witness = tmp_path / "witness"
    content = {"state_dict": {"w": torch.zeros(2)}, "extra": Evil(f"touch {witness}")}
    torch.save(content, tmp_path / "w.pth", _use_new_zipfile_serialization=not legacy)
    refuse(tmp_path / "w.pth", "never loaded: .*system")
    assert not witness.exists()


def test_bare_malicious_pickle_does_not_run(tmp_path):
    witness = tmp_path / "witness"
    (tmp_path / "w.pth").write_bytes(pickle.dumps(Evil(f"touch {witness}")))
    refuse(tmp_path / "w.pth", "Python pickle")
    assert not witness.exists()


def test_torchscript_archive(tmp_path):
    torch.jit.trace(torch.nn.Linear(2, 2), torch.zeros(1, 2)).save(tmp_path / "w.pt")
    refuse(tmp_path / "w.pt", "TorchScript")


def test_numpy_objects_in_the_checkpoint(tmp_path):
    torch.save({"state_dict": {"w": torch.zeros(2)}, "best": np.float64(0.9), "all": np.ones(2)}, tmp_path / "w.pth")
    with open_checkpoint(tmp_path / "w.pth") as (stream, _):
        loaded, _ = read_weights(stream, tmp_path / "w.pth")
    assert loaded["state_dict"]["w"].tolist() == [0, 0]
    assert not isinstance(loaded["best"], (np.generic, float))  # never loaded: something stands for it
    assert not isinstance(loaded["all"], np.ndarray)
    refuse(tmp_path / "w.pth", "holds no convolution")


def test_zip_bomb(tmp_path):
    torch.save({"w": torch.zeros(1 << 22)}, tmp_path / "plain.pth")
    bomb = rewrite(tmp_path / "plain.pth", tmp_path / "bomb.pth", lambda _, data: data, zipfile.ZIP_DEFLATED)
    assert bomb.stat().st_size < 100_000
    refuse(bomb, "torch.save did not write this zip archive")


def test_zip_record_that_claims_more_than_the_file(tmp_path):
    torch.save({"w": torch.zeros(100)}, tmp_path / "w.pth")
    data = bytearray((tmp_path / "w.pth").read_bytes())
    entry = data.rindex(b"/data/0") - len("w") - 46
    assert data[entry : entry + 4] == b"PK\x01\x02"
    data[entry + 20 : entry + 28] = struct.pack("<II", 1 << 31, 1 << 31)
    (tmp_path / "w.pth").write_bytes(data)
    refuse(tmp_path / "w.pth", "did not write this zip archive|damaged")


def test_storage_that_claims_more_than_its_record(tmp_path):
    """torch reads beyond such a record's end, so this must be caught before it is asked."""
    torch.save({"w": torch.zeros(70_000)}, tmp_path / "w.pth")
    honest, claimed = struct.pack("<i", 70_000), struct.pack("<i", 2**31 - 1)
    bad = rewrite(
        tmp_path / "w.pth",
        tmp_path / "bad.pth",
        lambda name, data: data.replace(honest, claimed) if name.endswith("data.pkl") else data,
    )
    refuse(bad, "claims 8589934588 bytes of weights where it holds 280000")


def test_legacy_storage_that_claims_more_than_the_file(tmp_path):
    torch.save({"w": torch.zeros(70_000)}, tmp_path / "w.pth", _use_new_zipfile_serialization=False)
    data = (tmp_path / "w.pth").read_bytes()
    (tmp_path / "w.pth").write_bytes(data.replace(struct.pack("<i", 70_000), struct.pack("<i", 2**31 - 1)))
    refuse(tmp_path / "w.pth", "claims 8589934588 bytes of weights")


@pytest.mark.parametrize("legacy", [False, True])
def test_view_that_repeats_its_bytes(legacy, tmp_path):
    state = {"w": torch.zeros(1).expand(TERABYTE)}
    torch.save(state, tmp_path / "w.pth", _use_new_zipfile_serialization=not legacy)
    refuse(tmp_path / "w.pth", "the tensors come to 4398046511104 bytes")


def test_storage_named_otherwise_than_torch_does():
    """A reference put together in an unusual way could hide its size from us."""
    stream = io.BytesIO(b"\x80\x02(X\x07\x00\x00\x00storageI5\nt\x85Q.")
    with pytest.raises(ValueError, match="otherwise than torch.save"):
        read_claims(stream)


def test_pickle_that_goes_on_and_on():
    with pytest.raises(ValueError, match="too long"):
        read_claims(io.BytesIO(b"\x80\x02" + b"N" * 2_500_000 + b"."))


@pytest.mark.parametrize("kept", [0.2, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors"])
def test_truncated_file(kind, kept, tmp_path):
    path = tmp_path / ("w.safetensors" if kind == "safetensors" else "w.pth")
    state = {"a": torch.ones(1000), "b": torch.ones(1000)}
    if kind == "safetensors":
        save_file(state, path)
    else:
        torch.save(state, path, _use_new_zipfile_serialization=kind == "zip")
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * kept)])
    refuse(path, "damaged|claims|not a checkpoint")


HEADERS = {
    "length": struct.pack("<Q", TERABYTE) + b'{"a":{}}',
    "shape": b'{"a":{"dtype":"F32","shape":[1099511627776],"data_offsets":[0,4]}}',
    "overflow": b'{"a":{"dtype":"F32","shape":[4294967296,4294967296,4],"data_offsets":[0,4]}}',
    "offsets": b'{"a":{"dtype":"F32","shape":[1099511627776],"data_offsets":[0,4398046511104]}}',
    "reversed": b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}}',
    "json": b"{not json",
}


@pytest.mark.parametrize("header", HEADERS)
def test_absurd_safetensors_header(header, tmp_path):
    content = HEADERS[header]
    length = b"" if header == "length" else struct.pack("<Q", len(content))
    (tmp_path / "w.safetensors").write_bytes(length + content + b"\x00" * 4)
    refuse(tmp_path / "w.safetensors", "damaged")


def test_absurd_widths_cost_no_memory(tmp_path):
    """Shapes alone decide how big a network would be; its tensors are never made before they are known to fit."""
    state = OrderedDict((f"layer{n}.0.conv1.weight", torch.zeros(1, 1)) for n in (1, 2, 3, 4))
    state["fc.weight"] = torch.zeros(1, 49)
    state["conv1.weight"] = torch.zeros(1_000_000, 1)
    torch.save(state, tmp_path / "w.pth")
    refuse(tmp_path / "w.pth", "fits no architecture")


def test_long_and_many_keys_keep_the_message_short(tmp_path):
    torch.save({f"{n}{'x' * 5000}": torch.zeros(1) for n in range(100)}, tmp_path / "w.pth")
    assert len(refuse(tmp_path / "w.pth", "and 88 more")) < 6000


@pytest.mark.slow
def test_bombs_do_not_fill_the_memory(tmp_path):
    """Measured in a process of its own: what refusing them costs at its peak."""
    state = {"w": torch.zeros(1).expand(TERABYTE), "v": torch.zeros(1 << 20)}
    torch.save(state, tmp_path / "view.pth")
    torch.save({"v": torch.zeros(1 << 24)}, tmp_path / "plain.pth")
    rewrite(tmp_path / "plain.pth", tmp_path / "zip.pth", lambda _, data: data, zipfile.ZIP_DEFLATED)
    program = (
        "import sys\n"
        "from qface_toolkit.untrusted.limits import peak_memory_bytes\n"
        "from qface_toolkit.errors import CheckpointError\n"
        "from qface_toolkit.models import load_model\n"
        "before = peak_memory_bytes()\n"
        "for path in sys.argv[1:]:\n"
        "    try:\n"
        "        load_model(path)\n"
        "    except CheckpointError:\n"
        "        continue\n"
        "    sys.exit('loaded ' + path)\n"
        "print(peak_memory_bytes() - before)\n"
    )
    paths = [str(tmp_path / "view.pth"), str(tmp_path / "zip.pth")]
    done = subprocess.run([sys.executable, "-c", program, *paths], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 100_000_000, f"{done.stdout} bytes more"


def _saved(kind):
    memory = io.BytesIO()
    state = {"a.weight": torch.ones(3, 4), "b": torch.ones(5)}
    if kind == "safetensors":
        return safetensors_bytes(state)
    torch.save(state, memory, _use_new_zipfile_serialization=kind == "zip")
    return memory.getvalue()


KINDS = ("zip", "legacy", "safetensors")
SOUND = {kind: _saved(kind) for kind in KINDS}


@pytest.mark.parametrize("opcode", [b"\x96", b"\x8d", b"\x8e"])
def test_a_piece_of_exabytes_is_refused_before_it_is_read(opcode):
    """BYTEARRAY8, BINUNICODE8 and BINBYTES8 announce their length in eight bytes."""
    stream = io.BytesIO(b"\x80\x04" + opcode + (2**62).to_bytes(8, "little") + b".")
    with pytest.raises(ValueError, match="in one piece"):
        read_claims(stream)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@pytest.mark.filterwarnings("ignore:Detected pickle protocol", "ignore:.*byteorder")
@given(
    kind=st.sampled_from(KINDS), place=st.floats(0, 1, exclude_max=True), value=st.integers(0, 255), cut=st.booleans()
)
def test_damaged_bytes_never_cause_another_error(kind, place, value, cut, tmp_path):
    data = bytearray(SOUND[kind])
    data[int(place * len(data))] = value
    (tmp_path / "w.pth").write_bytes(data[: int(place * len(data)) + 1] if cut else data)
    with pytest.raises(QFaceError):
        load_model(tmp_path / "w.pth")
