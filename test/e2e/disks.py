"""Small file systems of a test's own: filled to the last byte or inode, remounted read-only, taken away and brought back."""

import os
import shutil
import signal
import subprocess

import pytest

MB = 1 << 20


def crash(mail):
    """kill -9 of all at once: the store has no time for a last checkpoint."""
    pids = [mail.master.pid, *mail.children()]
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass                                        # its control channel was closed already
    mail.kill()


class Disk:
    """A mounted file system: in memory, or (kind ext4, xfs) an image in a file, which survives being unmounted."""

    def __init__(self, path, size, kind="tmpfs", options=""):
        self.path = str(path)
        self.kind = kind
        self.image = self.path.rstrip("/") + ".image"
        self.options = options
        os.makedirs(self.path, exist_ok=True)
        self.size = size
        if kind != "tmpfs":
            subprocess.run(["truncate", "-s", size, self.image], check=True)
            if not shutil.which(f"mkfs.{kind}"):
                pytest.skip(f"mkfs.{kind} is not installed")
            made = subprocess.run([f"mkfs.{kind}", "-q", self.image], capture_output=True, text=True)
            assert made.returncode == 0, made.stderr
        why = self.mount()
        if why:
            pytest.skip(f"cannot mount {kind} here: {why}")
        os.chmod(self.path, 0o755)

    def mount(self):
        """None, or why it cannot be."""
        if self.kind == "tmpfs":
            argv = ["mount", "-t", "tmpfs", "-o", f"size={self.size},mode=755{self.options}", "tmpfs", self.path]
        else:
            argv = ["mount", "-t", self.kind, "-o", "loop" + self.options, self.image, self.path]
        done = subprocess.run(argv, capture_output=True, text=True)
        return done.stderr.strip() or "failed" if done.returncode != 0 else None

    def free(self):
        s = os.statvfs(self.path)
        return s.f_bavail * s.f_frsize

    def fill(self, leave=0):
        """A file that leaves so many bytes free; 0: not one."""
        with open(os.path.join(self.path, "filler"), "ab") as f:
            for _ in range(20):
                room = self.free() - leave
                try:
                    if room > 0:
                        os.posix_fallocate(f.fileno(), os.fstat(f.fileno()).st_size, room)
                    break
                except OSError:
                    pass                                # somebody else was faster
            if leave > 0:
                return
            try:
                while True:
                    os.write(f.fileno(), b"x" * 4096)
            except OSError:
                return

    def use_up_inodes(self):
        """Files until there are no more: bytes are left."""
        os.makedirs(os.path.join(self.path, "fillers"), exist_ok=True)
        try:
            for i in range(1 << 20):
                os.close(os.open(os.path.join(self.path, "fillers", str(i)), os.O_CREAT | os.O_WRONLY))
        except OSError:
            return

    def empty(self):
        subprocess.run(["rm", "-rf", os.path.join(self.path, "filler"), os.path.join(self.path, "fillers")], check=True)

    def remount(self, how):
        subprocess.run(["mount", "-o", "remount," + how, self.path], check=True)

    def unmount(self):
        subprocess.run(["umount", "--lazy", self.path], check=True)

    def end(self):
        if os.path.ismount(self.path):
            self.unmount()


@pytest.fixture
def disk(tmp_path):
    """disk(path, size, kind, options) mounts; all of them are gone after the test."""
    disks = []

    def mount(path, size, kind="tmpfs", options=""):
        disks.append(Disk(path, size, kind, options))
        return disks[-1]
    if os.getuid() != 0:
        pytest.skip("needs root to mount a file system")
    yield mount
    for d in reversed(disks):
        d.end()
