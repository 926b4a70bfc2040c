"""A machine under qemu's translator: booted and saved once, resumed for every run.

Never under kvm: a machine must be the same everywhere, and where /dev/kvm opens it need not work. Commands, output
and status go through virtio serial ports, one socket each; the guest's side of it is guest/agent. qemu dies with us.
"""
import ctypes
import json
import os
import select
import shlex
import signal
import socket
import subprocess
import time

V1 = " systemd.unified_cgroup_hierarchy=0 systemd.legacy_systemd_cgroup_controller="
MODES = {"unified": "", "hybrid": V1 + "0", "legacy": V1 + "1"}
# norandmaps: fork and exec take a quarter of the time under the translator; panic=-1: a panic ends qemu. tsc=reliable: all
# processors read the host's counter; without it Linux takes the HPET, every reading of which waits for qemu's one lock:
# CPU quotas were then refilled too late, and an app with 25 % of a CPU got 15 to 22.
KERNEL_LINE = "console=ttyS0 quiet panic=-1 norandmaps mitigations=off nopti tsc=reliable"
QEMU = "qemu-system-x86_64"
MEMORY_MIB, CPUS = 1536, 2
PORTS = ("control", "out", "err")
BOOT_SECONDS = 300


def dies_with_us():
    """In a child before it executes anything: PR_SET_PDEATHSIG, so that a killed run leaves no process."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def qemu_version():
    try:
        return subprocess.run([QEMU, "--version"], stdout=subprocess.PIPE, text=True, check=True).stdout
    except FileNotFoundError:
        raise RuntimeError(f"{QEMU} is missing") from None


def processor():
    """What a saved state goes with: Linux has measured in it how fast the host's counter runs."""
    with open("/proc/cpuinfo") as file:
        return next((line for line in file if line.startswith("model name")), "")


class Machine:
    def __init__(self, image, mode, disk, state=None):
        self.console_file = os.memfd_create("console")
        sockets = {name: socket.socketpair() for name in (*PORTS, "qmp")}
        self.ports = {name: pair[0] for name, pair in sockets.items()}
        ends = {name: pair[1] for name, pair in sockets.items()}
        command = [QEMU, "-accel", "tcg,thread=multi", "-M", "pc", "-smp", str(CPUS), "-m", str(MEMORY_MIB),
                   "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
                   "-kernel", image + "/kernel", "-initrd", image + "/initrd", "-append", KERNEL_LINE + MODES[mode],
                   "-drive", f"if=none,id=disk,format=raw,cache=unsafe,snapshot={'on' if state else 'off'},file={disk}",
                   "-device", "virtio-blk-pci,drive=disk",
                   "-fsdev", "local,id=host,path=/,security_model=none,multidevs=remap,readonly=on",
                   "-device", "virtio-9p-pci,fsdev=host,mount_tag=host",
                   "-chardev", f"file,id=console,path=/proc/self/fd/{self.console_file}", "-serial", "chardev:console",
                   "-chardev", f"socket,id=qmp,fd={ends['qmp'].fileno()}", "-mon", "chardev=qmp,mode=control",
                   "-device", "virtio-serial-pci"]
        for name in PORTS:
            command += ["-chardev", f"socket,id={name},fd={ends[name].fileno()}",
                        "-device", f"virtserialport,chardev={name},name={name}"]
        if state:
            command += ["-incoming", "exec:exec cat " + shlex.quote(state)]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, preexec_fn=dies_with_us,
                                        pass_fds=[self.console_file, *(end.fileno() for end in ends.values())])
        for end in ends.values():
            end.close()

    def stop(self):
        self.process.kill()
        self.process.wait()

    def end(self):
        """How qemu ended by itself: 0 after a panic of the guest's kernel, below 0 by a signal, None not at all."""
        try:
            return self.process.wait(10)
        except subprocess.TimeoutExpired:
            return None

    def console(self):
        with open(self.console_file, errors="replace", closefd=False) as file:
            file.seek(0)
            return file.read()[-3000:]

    def run(self, script, seconds):
        """Hands the script in and copies its output; its exit status, or None when the machine died."""
        script, deadline = script.encode(), time.monotonic() + seconds
        control = self.ports["control"]
        control.sendall(b"%d\n" % len(script) + script)
        targets, status = {control: None, self.ports["out"]: 1, self.ports["err"]: 2}, None
        while targets:
            # With the status here only what has arrived already is left to copy.
            left = 0.2 if control not in targets else deadline - time.monotonic()
            ready = select.select(targets, [], [], max(left, 0))[0]
            if not ready:
                if control in targets:
                    raise TimeoutError
                break
            for port in ready:
                data = read_line(port) if port is control else port.recv(1 << 16)
                if port is control and data.startswith(b"exit "):
                    status = int(data.split()[1])
                if port is control or not data:
                    del targets[port]
                else:
                    write_all(targets[port], data)
        return status

    def command(self, name, **arguments):
        self.ports["qmp"].sendall(json.dumps({"execute": name, "arguments": arguments}).encode() + b"\n")
        while True:
            answer = json.loads(read_line(self.ports["qmp"]) or b'{"error": "qemu ended"}')
            if "error" in answer:
                raise RuntimeError(f"qemu: {name}: {answer['error']}")
            if "return" in answer:
                return answer["return"]

    def save(self, path):
        read_line(self.ports["qmp"])  # the greeting
        self.command("qmp_capabilities")
        self.command("migrate-set-parameters", **{"max-bandwidth": 1 << 40})
        self.command("migrate", uri="exec:exec cat >" + shlex.quote(path))
        while (status := self.command("query-migrate").get("status")) != "completed":
            if status in ("failed", "cancelled"):
                raise RuntimeError("cannot save the machine's state")
            time.sleep(0.05)


def boot_and_save(path, image, mode):
    """Makes PATH/disk and PATH/ram: a machine whose systemd has reached `running`."""
    subprocess.run(["cp", "--sparse=always", image + "/disk", path + "/disk"], check=True, preexec_fn=dies_with_us)
    machine = Machine(image, mode, disk=path + "/disk")
    try:
        control = machine.ports["control"]
        control.settimeout(BOOT_SECONDS)
        ready = read_line(control)
        if ready != b"ready running\n":
            raise RuntimeError(f"the guest did not come up ({ready}):\n{machine.console()}")
        machine.save(path + "/ram")
    finally:
        machine.stop()


def read_line(port):
    data = b""
    while not data.endswith(b"\n") and (byte := port.recv(1)):
        data += byte
    return data


def write_all(target, data):
    while data:
        data = data[os.write(target, data):]
