"""Debian as a disk, a kernel and an initrd, from the packages of the mirror that this machine's own apt uses."""
import os
import shutil
import subprocess

from machine import dies_with_us

RELEASES = ["bookworm", "trixie", "forky"]  # systemd 252, 257 and the newest there is
PACKAGES = ["systemd", "systemd-sysv", "systemd-container", "dbus", "dbus-user-session", "libpam-systemd", "passwd",
            "uidmap", "procps", "iproute2", "kmod", "busybox-static"]
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
# In namespaces of its own: when it is killed, nothing of it goes on and no mount is left.
MMDEBSTRAP = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "mmdebstrap"]
DISK_BYTES = 4 << 30
GUEST = os.path.join(os.path.dirname(os.path.realpath(__file__)), "guest")


def text_of(*command):
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout


def mirror():
    found = text_of("apt-get", "indextargets", "--format", "$(SITE)", "Created-By: Packages", "Label: Debian")
    if not found:
        raise RuntimeError("apt knows no Debian mirror here")
    return found.split()[0]


def apt_settings():
    """How this machine's apt reaches its mirror, and what it checks there."""
    kept = ("Acquire::Check-", "Acquire::http", "Acquire::https")
    return [line for line in text_of("apt-config", "dump").splitlines() if line.startswith(kept)]


def build_image(path, release):
    """Makes PATH/disk, PATH/kernel and PATH/initrd."""
    tree, log = path + "/tree", path + "/log"
    hooks = [f"{GUEST}/kernel", f"copy-in {GUEST}/setup {GUEST}/agent /tmp", 'chroot "$1" sh /tmp/setup']
    command = [*MMDEBSTRAP, "--variant=minbase", "--format=directory", "--include=" + ",".join(PACKAGES),
               *("--aptopt=" + setting for setting in [*apt_settings(), 'Acquire::Languages "none"']),
               *(f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in ("doc", "man", "locale", "info")),
               *("--customize-hook=" + hook for hook in hooks),
               release, tree, f"deb [signed-by={KEYRING}] {mirror()} {release} main"]
    with open(log, "w+") as out:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, close_fds=False,
                              env={**os.environ, "TMPDIR": path}, preexec_fn=dies_with_us)
        out.seek(0)
        if done.returncode:
            raise RuntimeError("cannot build the image:\n" + "".join(out.readlines()[-15:]))
    for name in ("kernel", "initrd"):
        shutil.move(f"{tree}/boot/{name}", f"{path}/{name}")
    with open(path + "/disk", "w") as disk:
        disk.truncate(DISK_BYTES)
    # No journal: a disk that is thrown away need not survive a crash.
    subprocess.run(["mke2fs", "-qt", "ext4", "-O", "^has_journal", "-m0", "-E", "nodiscard", "-d", tree, path + "/disk"],
                   check=True, preexec_fn=dies_with_us)
    shutil.rmtree(tree)
