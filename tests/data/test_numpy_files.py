import resource
import zipfile
from pathlib import Path

import numpy as np
import pytest

from tests.hostile_files import npy_bytes
from tsdistill.data.arrays import read_arrays
from tsdistill.data.numpy_files import names_in, read_npy, read_npz
from tsdistill.errors import TsdistillError

ARRAYS = {"x": np.arange(24, dtype="f4").reshape(4, 6), "y": np.arange(4)}


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_arrays_come_back(tmp_path: Path, save) -> None:
    save(tmp_path / "a.npz", **ARRAYS, z=np.array(["text"]))
    found = read_npz(tmp_path / "a.npz", ("x", "y"))
    assert sorted(found) == ["x", "y"]
    assert all(np.array_equal(found[name], ARRAYS[name]) for name in found)
    assert names_in(tmp_path / "a.npz") == ["x", "y", "z"]
    for array in (ARRAYS["x"], np.asfortranarray(ARRAYS["x"])):
        np.save(tmp_path / "a.npy", array)
        assert np.array_equal(read_npy(tmp_path / "a.npy"), ARRAYS["x"])


def test_every_flipped_bit_of_a_compressed_member_is_noticed_or_without_effect(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=20)
    np.savez_compressed(tmp_path / "a.npz", x=x)
    good = (tmp_path / "a.npz").read_bytes()
    noticed = 0
    for place in range(len(good)):
        changed = bytearray(good)
        changed[place] ^= 1 << place % 8
        (tmp_path / "b.npz").write_bytes(changed)
        try:
            found = read_npz(tmp_path / "b.npz")
        except TsdistillError:
            noticed += 1
            continue
        assert all(np.array_equal(array, x) for array in found.values()), place
    assert noticed > len(good) / 2


def test_arrays_of_the_other_byte_order_are_read(tmp_path: Path) -> None:
    x = np.arange(24, dtype=">f4").reshape(4, 6)
    np.savez(tmp_path / "a.npz", x=x, y=np.arange(4, dtype=">i8"))
    np.save(tmp_path / "a.npy", x)
    for name in ("a.npz", "a.npy"):
        samples = read_arrays(tmp_path / name)
        assert samples[2][0].tolist() == x[2].tolist()
        assert samples.take([1, 2])[0].tolist() == x[1:3].tolist()


@pytest.mark.parametrize("shape", [(43 * 2**38,), (2**40,), (2**31, 2**31, 2**31), (7, 7), (-1,), (1,) * 70])
def test_arrays_claim_no_more_than_there_is(tmp_path: Path, shape: tuple[int, ...]) -> None:
    data = npy_bytes(shape, "<f4", bytes(96))
    (tmp_path / "a.npy").write_bytes(data)
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("x.npy", data)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for call in (lambda: read_npy(tmp_path / "a.npy"), lambda: read_npz(tmp_path / "a.npz")):
        with pytest.raises(TsdistillError, match="cannot be read"):
            call()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**16


def test_encrypted_members_and_empty_types(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=ARRAYS["x"])
    data = bytearray((tmp_path / "a.npz").read_bytes())
    data[6] |= 1
    data[data.find(b"PK\x01\x02") + 8] |= 1
    (tmp_path / "a.npz").write_bytes(data)
    with pytest.raises(TsdistillError, match="encrypted"):
        read_npz(tmp_path / "a.npz")
    (tmp_path / "a.npy").write_bytes(npy_bytes((2**40,), "|V0", b""))
    with pytest.raises(TsdistillError, match="bytes"):
        read_npy(tmp_path / "a.npy")
