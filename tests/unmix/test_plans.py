"""Plans are executable code: which may be loaded, and which must not."""

import hashlib
import os

import msgspec
import pytest

from irst_stream.errors import FormatError, SourceError
from irst_stream.system.private_files import write_private
from irst_stream.unmix import plans as module
from irst_stream.unmix.plans import GpuPlatform, PlanManifest, Plans, find_plans, plans_folder, read_plans, write_plans

HERE = GpuPlatform("10.13.3", "NVIDIA H200", "9.0", "580.65.06, CUDA 13.0")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "irst-stream"


def some_plans(engine="e" * 64, precision="fp16", place=HERE, unfold=b"unfold plan", fuse=b"fuse plan"):
    hashes = {"unfold": hashlib.sha256(unfold).hexdigest(), "fuse": hashlib.sha256(fuse).hexdigest()}
    layers = {"unfold": {"fp16": 36}, "fuse": {"fp16": 35}}
    graphs = {"unfold": "a", "fuse": "b"}
    manifest = PlanManifest(engine, place, precision, (1, 8), graphs, hashes, layers, 0.004, 0.02)
    return Plans(manifest, unfold, fuse)


def test_written_plans_read_back_unchanged(cache):
    folder = write_plans(some_plans())
    assert folder.parent == cache / "plans"
    assert read_plans(folder) == some_plans()
    assert [oct(path.stat().st_mode & 0o777) for path in (folder, folder / "fuse.plan")] == ["0o700", "0o600"]


def test_plans_are_found_by_engine_platform_and_precision_only():
    folder = write_plans(some_plans())
    assert find_plans("e" * 64, HERE, "fp16") == folder
    assert find_plans("f" * 64, HERE, "fp16") is None
    assert find_plans("e" * 64, HERE, "int8") is None
    for field in HERE.__struct_fields__:
        assert find_plans("e" * 64, msgspec.structs.replace(HERE, **{field: "other"}), "fp16") is None


def test_every_property_is_part_of_the_folder_name():
    graphs = {"unfold": "a", "fuse": "b"}
    keys = {plans_folder("e", HERE, "fp16", (1,), graphs), plans_folder("f", HERE, "fp16", (1,), graphs)}
    keys |= {plans_folder("e", HERE, "int8", (1,), graphs), plans_folder("e", HERE, "fp16", (1, 8), graphs)}
    keys |= {plans_folder("e", HERE, "fp16", (1,), graphs | {"fuse": "c"})}
    others = [msgspec.structs.replace(HERE, **{name: "x"}) for name in HERE.__struct_fields__]
    keys |= {plans_folder("e", other, "fp16", (1,), graphs) for other in others}
    assert len(keys) == 9


def test_the_newest_plans_are_found():
    old, new = write_plans(some_plans()), write_plans(some_plans()._replace(manifest=_with(batches=(1, 64))))
    os.utime(old / "manifest.json", ns=(1, 1))
    assert find_plans("e" * 64, HERE, "fp16") == new


def _with(**changed):
    return msgspec.structs.replace(some_plans().manifest, **changed)


def test_a_plan_of_another_hash_is_not_loaded():
    folder = write_plans(some_plans())
    (folder / "fuse.plan").write_bytes(b"something else")
    with pytest.raises(
        FormatError,
        match=r"fuse.plan: its hash is not the manifest's: the file was changed, truncated, or belongs to another build",
    ):
        read_plans(folder)


def test_a_plan_that_others_may_write_is_not_loaded():
    folder = write_plans(some_plans())
    (folder / "unfold.plan").chmod(0o666)
    with pytest.raises(
        SourceError,
        match=r"unfold.plan: other users can write to it; code is loaded only from files that no other user can change",
    ):
        read_plans(folder)


@pytest.mark.parametrize("above", [0, 1, 2])
def test_a_folder_that_others_may_write_to_is_not_trusted(above):
    folder = write_plans(some_plans())
    (folder, *folder.parents)[above].chmod(0o777)
    with pytest.raises(SourceError, match="other users can write to it"):
        read_plans(folder)
    assert find_plans("e" * 64, HERE, "fp16") is None


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give files away")
def test_plans_of_another_user_are_not_loaded():
    folder = write_plans(some_plans())
    os.chown(folder / "unfold.plan", 12345, 12345)
    with pytest.raises(SourceError, match=r"unfold.plan: belongs to another user"):
        read_plans(folder)


def test_a_link_into_a_folder_that_others_can_write_to_is_not_trusted(tmp_path):
    folder = write_plans(some_plans())
    (tmp_path / "open").mkdir(mode=0o777)
    (tmp_path / "open").chmod(0o777)
    moved = tmp_path / "open" / "fuse.plan"
    (folder / "fuse.plan").rename(moved)
    (folder / "fuse.plan").symlink_to(moved)
    with pytest.raises(SourceError, match="open: other users can write to it"):
        read_plans(folder)


@pytest.mark.parametrize("text", [b"", b"{}", b"[1]", b"\xff", b'{"engine": 1}'])
def test_a_broken_manifest_is_reported_with_its_path(text):
    folder = write_plans(some_plans())
    (folder / "manifest.json").write_bytes(text)
    with pytest.raises(FormatError, match=r"manifest\.json: "):
        read_plans(folder)
    assert find_plans("e" * 64, HERE, "fp16") is None


def test_half_written_plans_are_not_found(monkeypatch):
    folder = write_plans(some_plans())

    def stop(*_):
        raise OSError("no space left")

    monkeypatch.setattr(module, "write_private", stop)
    with pytest.raises(OSError, match="no space"):
        write_plans(some_plans())
    assert find_plans("e" * 64, HERE, "fp16") is None
    assert (folder / "fuse.plan").exists()


def test_a_file_is_replaced_atomically(cache):
    path = cache / "timing" / "x"
    for data in (b"one", b"another"):
        write_private(path, data)
        assert path.read_bytes() == data
    assert [one.name for one in path.parent.iterdir()] == ["x"]
