"""Locks of shares that hold on one machine only: they look like others, and are known by type."""

from __future__ import annotations

from pathlib import Path

import pytest

from neuro_assets.cli import setup
from neuro_assets.cli.lab import Lab
from neuro_assets.config import LabConfig, StoreConfig
from neuro_assets.store import locks
from neuro_assets.store.locks import mount_with_own_locks

ROOT = "/dev/sda1 / ext4 rw,relatime 0 0\n"


@pytest.mark.parametrize(
    ("kind", "options", "says"),
    [
        ("fuse.sshfs", "rw,user_id=0", "fuse.sshfs"),
        ("fuse.rclone", "rw", "fuse.rclone"),
        ("nfs", "rw,vers=3,nolock,local_lock=all", "nfs local_lock=all nolock"),
        ("nfs", "rw,vers=3,local_lock=flock", "nfs local_lock=flock"),
        ("nfs", "rw,vers=3,local_lock=none", ""),
        ("nfs4", "rw,vers=4.2,local_lock=none", ""),
        ("cifs", "rw,vers=3.1.1,nobrl", "cifs nobrl"),
        ("cifs", "rw,vers=3.1.1", ""),
        ("lustre", "rw,localflock", "lustre localflock"),
        ("ext4", "rw", ""),
        ("fuse.glusterfs", "rw", ""),
    ],
)
def test_a_mount_whose_locks_hold_on_one_machine_is_known(
    kind: str, options: str, says: str
) -> None:
    mounts = f"{ROOT}server:/x /data/lab\\040one {kind} {options} 0 0\n"
    expected = f"{says} at /data/lab one" if says else ""
    assert mount_with_own_locks(Path("/data/lab one/store"), mounts) == expected
    assert mount_with_own_locks(Path("/data/lab"), mounts) == ""
    assert mount_with_own_locks(Path("/data/lab one more"), mounts) == ""


def test_the_mount_that_is_nearest_and_the_latest_counts() -> None:
    share, disk = "s:/ /data fuse.sshfs rw 0 0\n", "/dev/sdb1 /data/here ext4 rw 0 0\n"
    over = "/dev/sdc1 /data ext4 rw 0 0\n"
    assert mount_with_own_locks(Path("/data/here/store"), ROOT + disk + share) == ""
    assert mount_with_own_locks(Path("/data/store"), ROOT + share) == "fuse.sshfs at /data"
    assert mount_with_own_locks(Path("/data/store"), ROOT + share + over) == ""


def test_the_doctor_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def found(url: str) -> list[setup.Finding]:
        return list(setup._locks(Lab(tmp_path / "lab.yaml", LabConfig(store=StoreConfig(url=url)))))

    assert found(str(tmp_path / "store")) == found("s3://bucket/lab") == []
    kinds = {line.split()[2] for line in Path("/proc/self/mounts").read_text().splitlines()}
    monkeypatch.setattr(locks, "_ON_ONE_MACHINE", kinds)
    [finding] = found(str(tmp_path / "store"))
    assert not finding.is_well and not finding.is_needed, "a note: one machine may go on"
    assert "hold on this machine only" in finding.words
    assert "let one machine write to this store" in finding.words
