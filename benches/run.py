#!/usr/bin/env python3
"""podrun beside others, side by side on one machine in one run: `make bench`.

Every round starts each candidate once, in turn, so that what disturbs the machine disturbs all of them. The root, the
program and the limits are the same where a candidate has them. What is printed is the median, the 10th and the 90th
percentile of the wall time, the ratio of the medians to the floor (benches/floor.c), and the same for the CPU time of
the program and all that it started, which a busy machine disturbs less.
"""

import argparse
import json
import os
import pathlib
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

DEVNULL = os.open(os.devnull, os.O_RDWR)
REDIRECT = [(os.POSIX_SPAWN_DUP2, DEVNULL, fd) for fd in (0, 1, 2)]


def milliseconds(argv, environment):
    """Wall time from the start of a program to its end, and CPU time of it and of what it waited for."""
    begin = time.perf_counter_ns()
    pid = os.posix_spawn(argv[0], argv, environment, file_actions=REDIRECT)
    _, status, usage = os.wait4(pid, 0)
    elapsed = (time.perf_counter_ns() - begin) / 1e6
    if status != 0:
        shown = subprocess.run(argv, env=environment, stdin=DEVNULL, capture_output=True, text=True, check=False)
        sys.exit(f"bench: {' '.join(argv)}: status {status}\n{shown.stdout}{shown.stderr}")
    return elapsed, (usage.ru_utime + usage.ru_stime) * 1e3


def measure(candidates, rounds, environment):
    """One list of times for each candidate, taken in turns."""
    times = {name: [] for name in candidates}
    for round_number in range(rounds + 2):
        for name, argv in candidates.items():
            elapsed = milliseconds(argv, environment)
            if round_number >= 2:  # the first two rounds fill the caches
                times[name].append(elapsed)
    return times


def percentile(values, part):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))]


def table(title, times, floor):
    print(f"\n{title}\n{'':24}{'median':>10}{'p10':>9}{'p90':>9}{'ratio':>8}{'CPU':>11}{'ratio':>8}")
    median = {name: [statistics.median(column) for column in zip(*values)] for name, values in times.items()}
    rows = {}
    for name, values in times.items():
        (wall, cpu), (base_wall, base_cpu) = median[name], median[floor]
        walls = [value[0] for value in values]
        low, high = percentile(walls, 0.1), percentile(walls, 0.9)
        rows[name] = {"median_ms": round(wall, 2), "p10_ms": round(low, 2), "p90_ms": round(high, 2),
                      "ratio": round(wall / base_wall, 2), "cpu_ms": round(cpu, 2), "cpu_ratio": round(cpu / base_cpu, 2)}
        print(f"{name:24}{wall:8.2f}ms{low:7.2f}ms{high:7.2f}ms{wall / base_wall:7.2f}x{cpu:9.2f}ms{cpu / base_cpu:7.2f}x")
    return rows


def build_root(place, probe):
    """What a static program needs, and what systemd-nspawn asks of a root."""
    root = place / "root"
    for name in ("bin", "dev", "etc", "proc", "root", "run", "sys", "tmp", "usr", "var"):
        (root / name).mkdir(parents=True)
    (root / "etc/os-release").write_text("ID=bench\n")
    shutil.copy(probe, root / "bin/probe")
    return root


def manifest(place, name, root, apps, words):
    """A pod whose apps have memory, cpu and pids limits."""
    text = [f'version = 1\n[pod]\nname = "{name}"\n']
    for number in range(apps):
        text.append(f'[app.app-{number}]\nrootfs = "{root}"\nexec = {json.dumps(["/bin/probe", *words])}\n'
                    f'[app.app-{number}.isolators]\nmemory-max = "64MiB"\ncpus = 1\npids-max = 64\n')
    path = place / f"{name}.toml"
    path.write_text("".join(text))
    return str(path)


def runc_bundle(place, root, label):
    """runc's own default configuration with the same root, program and limits, in a group of its own."""
    bundle = place / "bundle"
    bundle.mkdir()
    subprocess.run(["runc", "spec"], cwd=bundle, check=True)
    config = json.loads((bundle / "config.json").read_text())
    config["process"]["args"] = ["/bin/probe", "exit", "0"]
    config["process"]["terminal"] = False
    config["root"] = {"path": str(root), "readonly": True}
    config["linux"]["cgroupsPath"] = f"/{label}"
    config["linux"]["resources"].update({
        "memory": {"limit": 64 << 20}, "cpu": {"quota": 100_000, "period": 100_000}, "pids": {"limit": 64}})
    (bundle / "config.json").write_text(json.dumps(config))
    return str(bundle)


def candidates(place, state, root, bins, label):
    """Everything that starts one program in a root of its own, as `name: argv`."""
    floor = place / "floor"
    source = pathlib.Path(__file__).parent / "floor.c"
    subprocess.run(["cc", "-O2", "-static", "-Wall", "-o", floor, source], check=True)
    probe = ["/bin/probe", "exit", "0"]
    pod = manifest(place, "bench", root, 1, ["exit", "0"])
    found = {
        "floor": [str(floor), str(root), *probe],
        "floor, with its views": [str(floor), "--views", str(root), *probe],
        "podrun run": [str(bins / "podrun"), "run", "--rm", pod],
    }
    others = {
        "runc": ["--root", str(state / "runc"), "run", "-b", None, label],
        "bwrap": ["--unshare-all", "--ro-bind", str(root), "/", "--proc", "/proc", "--dev", "/dev", *probe],
        "systemd-nspawn": ["--as-pid2", "--quiet", "--register=no", "--keep-unit", "-D", str(root), *probe],
    }
    for name, arguments in others.items():
        program = shutil.which(name)
        if program is None:
            print(f"SKIP {name}: not installed; tests/install-deps bench installs it")
            continue
        if name == "runc":
            arguments[arguments.index(None)] = runc_bundle(place, root, label)
        found[{"runc": "runc run", "bwrap": "bwrap --unshare-all", "systemd-nspawn": "systemd-nspawn --as-pid2"}[name]] = [
            program, *arguments]
    return found


def pss_kilobytes(pid):
    for line in pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1])
    raise RuntimeError("no Pss in smaps_rollup")


def resident_kilobytes(pid):
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise RuntimeError("no VmRSS in status")


def wait_for_line(stream, text):
    for line in stream:
        if text in line:
            return
    sys.exit(f"bench: `{text}` never came")


def idle(place, root, bins, environment, seconds):
    """Memory and system calls of a pod in which nothing happens."""
    pod = manifest(place, "idle", root, 1, ["say", "up", ";", "on-term", "0", ";", "pause"])
    launcher = subprocess.Popen([bins / "podrun", "run", "--rm", pod], env=environment, stdin=DEVNULL,
                                stdout=subprocess.PIPE, text=True)
    wait_for_line(launcher.stdout, "up")
    time.sleep(1)  # both are through with the start
    children = pathlib.Path(f"/proc/{launcher.pid}/task/{launcher.pid}/children").read_text().split()
    pids = [launcher.pid, int(children[0])]
    memory = {"pss_kb": [pss_kilobytes(pid) for pid in pids], "rss_kb": [resident_kilobytes(pid) for pid in pids]}
    trace = place / "trace"
    tracer = subprocess.Popen(["strace", "-f", "-qq", "-o", trace, "-p", str(pids[0]), "-p", str(pids[1])],
                              stdin=DEVNULL, stderr=DEVNULL)
    time.sleep(seconds)
    tracer.send_signal(signal.SIGINT)
    tracer.wait()
    # A call in which a process slept from the beginning to the end has no result: it is not counted.
    calls = [line for line in trace.read_text().splitlines() if " = " in line]
    launcher.send_signal(signal.SIGTERM)
    launcher.stdout.read()
    if launcher.wait() != 0:
        sys.exit("bench: the idle pod did not stop well")
    print(f"\nAn idle pod\nPss: launcher {memory['pss_kb'][0]} kB, stage1 {memory['pss_kb'][1]} kB, together "
          f"{sum(memory['pss_kb'])} kB (at most 4096); stage1 resident {memory['rss_kb'][1]} kB (at most 1536)")
    print(f"system calls in {seconds} s: {len(calls)}")
    for line in calls[:10]:
        print(f"  {line}")
    return memory | {"seconds": seconds, "system_calls": len(calls)}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bin-dir", required=True, type=pathlib.Path)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--idle-seconds", type=int, default=60)
    parser.add_argument("--json", type=pathlib.Path, help="write the figures here too")
    options = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("bench: pods need root")
    bins = options.bin_dir.resolve()
    place = pathlib.Path(tempfile.mkdtemp(prefix="podrun-bench-"))
    # On a tmpfs, as /run is on a machine that was booted by an init system.
    state = pathlib.Path(tempfile.mkdtemp(prefix="podrun-bench-", dir="/dev/shm"))
    environment = {"PATH": os.environ["PATH"], "PODRUN_ROOT": str(state)}
    try:
        root = build_root(place, bins / "podrun-probe")
        figures = {}
        times = measure(candidates(place, state, root, bins, place.name), options.rounds, environment)
        figures["one_app"] = table("One app with memory, cpu and pids limits, launch to exit", times, "floor")
        pods = {f"{apps} apps": [str(bins / "podrun"), "run", "--rm", manifest(place, f"pod-{apps}", root, apps, ["exit", "0"])]
                for apps in (1, 10, 100)}
        times = measure(pods, max(5, options.rounds // 4), environment)
        figures["apps"] = table("Apps in a pod, launch to exit; the ratio is to 10 apps (100: at most 12x)", times, "10 apps")
        size = (bins / "podrun-stage1").stat().st_size
        print(f"\nstage1 on disk: {size} bytes (at most 1572864)")
        figures["stage1_bytes"] = size
        figures["idle"] = idle(place, root, bins, environment, options.idle_seconds)
        if options.json:
            options.json.write_text(json.dumps(figures, indent=2) + "\n")
    finally:
        shutil.rmtree(place, ignore_errors=True)
        shutil.rmtree(state, ignore_errors=True)


if __name__ == "__main__":
    main()
