/*
 * The floor: a pod of one app in the system calls that such a pod cannot do without, and nothing else. No checks of
 * values, no supervisor's loop, no records. What podrun takes beyond this is what its promises cost.
 *
 * floor [--views] ROOTFS PROGRAM [ARGUMENT...]
 *
 * --views adds what every app of a pod finds in its root by contract: /dev with six devices, pts, shm and mqueue, a
 * read-only /sys with the app's own groups in it, and the paths that are masked or read-only.
 *
 * The pod has three groups in each of the hierarchies of memory, cpu and pids and in cgroup2: its own, `supervisor`
 * for its PID 1, `app` with the limits. PID 1 is cloned into new pid, mount, uts and ipc
 * namespaces and into `supervisor`; it clones the app into `app`. The app joins the v1 groups, takes a mount and a
 * cgroup namespace of its own, mounts an overlay with a tmpfs above ROOTFS and /proc, pivots and executes PROGRAM.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef CLONE_INTO_CGROUP
#define CLONE_INTO_CGROUP 0x200000000ULL
#endif

static void need(int ok, const char *what) {
    if (!ok) {
        fprintf(stderr, "floor: %s: %s\n", what, strerror(errno));
        _exit(125);
    }
}

/* Mount point and own group of one hierarchy; `""` is cgroup2. */
struct hierarchy {
    const char *controller;
    char own[512];
    int app_procs;
};

static struct hierarchy hierarchies[] = {{"", "", -1}, {"memory", "", -1}, {"cpu", "", -1}, {"pids", "", -1}};
enum { COUNT = sizeof hierarchies / sizeof *hierarchies };
static char group[64];

/* Own groups: where a hierarchy is mounted is looked up as podrun does, in two files. */
static void find_hierarchies(void) {
    static char mounts[65536], own[4096];
    FILE *file = fopen("/proc/self/mountinfo", "re");
    need(file != NULL, "mountinfo");
    mounts[fread(mounts, 1, sizeof mounts - 1, file)] = 0;
    fclose(file);
    file = fopen("/proc/self/cgroup", "re");
    need(file != NULL, "cgroup");
    own[fread(own, 1, sizeof own - 1, file)] = 0;
    fclose(file);
    for (char *save, *line = strtok_r(mounts, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        char point[256], type[32], options[256];
        char *dash = strstr(line, " - ");
        if (!dash || sscanf(line, "%*s %*s %*s %*s %255s", point) != 1 ||
            sscanf(dash, " - %31s %*s %255s", type, options) != 2) continue;
        for (int i = 0; i < COUNT; i++) {
            struct hierarchy *h = &hierarchies[i];
            char wanted[64];
            if (*h->controller) snprintf(wanted, sizeof wanted, ",%s", h->controller);
            else snprintf(wanted, sizeof wanted, "cgroup2");
            size_t tail = strlen(options) - strlen(wanted);
            int here = *h->controller ? !strcmp(type, "cgroup") && strlen(options) > strlen(wanted) &&
                                            !strcmp(options + tail, wanted)
                                      : !strcmp(type, wanted);
            if (!here || *h->own) continue;
            char key[64];
            snprintf(key, sizeof key, ":%s:", h->controller);
            char *path = strstr(own, key);
            if (!path) continue;
            path += strlen(key);
            int length = strcspn(path, "\n");
            if (length == 1) length = 0; /* the root, "/" */
            snprintf(h->own, sizeof h->own, "%s%.*s", point, length, path);
        }
    }
}

static void put(const char *dir, const char *sub, const char *file, const char *text) {
    char path[1024];
    snprintf(path, sizeof path, "%s/%s%s/%s", dir, group, sub, file);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    need(fd >= 0, path);
    need(write(fd, text, strlen(text)) >= 0, path);
    close(fd);
}

/* `tasks` moves one thread and needs no lock over all forks of the machine, which `cgroup.procs` takes. */
static int procs(const struct hierarchy *h, const char *sub) {
    char path[1024];
    snprintf(path, sizeof path, "%s/%s%s/%s", h->own, group, sub, *h->controller ? "tasks" : "cgroup.procs");
    return open(path, O_WRONLY | O_CLOEXEC);
}

static const char *const SUBS[] = {"", "/supervisor", "/app"};

static void make_groups(void) {
    for (int i = 0; i < COUNT; i++) {
        struct hierarchy *h = &hierarchies[i];
        need(*h->own != 0, "a hierarchy is missing");
        for (int s = 0; s < 3; s++) {
            char path[1024];
            snprintf(path, sizeof path, "%s/%s%s", h->own, group, SUBS[s]);
            need(mkdir(path, 0755) == 0, path);
        }
        if (!strcmp(h->controller, "memory")) put(h->own, "/app", "memory.limit_in_bytes", "67108864");
        if (!strcmp(h->controller, "pids")) put(h->own, "/app", "pids.max", "64");
        if (!strcmp(h->controller, "cpu")) put(h->own, "/app", "cpu.cfs_quota_us", "100000");
        h->app_procs = procs(h, "/app");
    }
}

static void remove_groups(void) {
    for (int i = 0; i < COUNT; i++)
        for (int s = 2; s >= 0; s--) {
            char path[1024];
            snprintf(path, sizeof path, "%s/%s%s", hierarchies[i].own, group, SUBS[s]);
            while (rmdir(path) != 0 && errno == EBUSY) sched_yield(); /* the last process is being taken out */
        }
}

static pid_t clone_into(const char *sub, uint64_t flags) {
    char path[1024];
    snprintf(path, sizeof path, "%s/%s%s", hierarchies[0].own, group, sub);
    int dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    need(dir >= 0, path);
    struct clone_args args = {0};
    args.flags = flags | CLONE_INTO_CGROUP;
    args.exit_signal = SIGCHLD;
    args.cgroup = dir;
    pid_t pid = syscall(SYS_clone3, &args, sizeof args);
    need(pid >= 0, "clone3");
    close(dir);
    return pid;
}

static int wait_for(pid_t pid) {
    int status;
    while (waitpid(pid, &status, 0) < 0) need(errno == EINTR, "waitpid");
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static int with_views;

static const char *const DEVICES[] = {"null", "zero", "full", "random", "urandom", "tty"};
static const char *const READ_ONLY[] = {"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys"};
static const char *const MASKED_FILES[] = {"/proc/config.gz", "/proc/interrupts", "/proc/kallsyms", "/proc/keys",
                                           "/proc/timer_list"};
static const char *const MASKED_DIRS[] = {"/sys/firmware", "/sys/fs/bpf",    "/sys/fs/btrfs", "/sys/fs/ext4",
                                          "/sys/fs/fuse",  "/sys/fs/pstore", "/sys/fs/xfs",   "/sys/kernel",
                                          "/sys/module",   "/sys/power"};
#define EACH(word, list) for (const char *const *word = list; word < list + sizeof list / sizeof *list; word++)
#define QUIET (MS_NOSUID | MS_NODEV | MS_NOEXEC)

static void bind_device(const char *name) {
    char from[64], to[64];
    snprintf(from, sizeof from, "/dev/%s", name);
    snprintf(to, sizeof to, "dev/%s", name);
    close(open(to, O_WRONLY | O_CREAT | O_CLOEXEC, 0666));
    need(mount(from, to, NULL, MS_BIND, NULL) == 0, to);
}

/* Before the pivot, in the directory that becomes the root. */
static void mount_views(void) {
    need(mount("tmpfs", "dev", "tmpfs", MS_NOSUID | MS_NOEXEC, "mode=755,size=64k") == 0, "dev");
    EACH(device, DEVICES) bind_device(*device);
    need(mkdir("dev/pts", 0755) == 0 && mkdir("dev/shm", 0755) == 0 && mkdir("dev/mqueue", 0755) == 0, "mkdir");
    need(mount("devpts", "dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666") == 0, "pts");
    need(mount("tmpfs", "dev/shm", "tmpfs", QUIET, "mode=1777,size=64m") == 0, "shm");
    need(mount("mqueue", "dev/mqueue", "mqueue", QUIET, NULL) == 0, "mqueue");
    need(mount("sysfs", "sys", "sysfs", QUIET | MS_RDONLY, NULL) == 0, "sys");
    need(mount("tmpfs", "sys/fs/cgroup", "tmpfs", QUIET, "mode=755,size=16k") == 0, "cgroup");
    for (int i = 0; i < COUNT; i++) {
        const char *controller = hierarchies[i].controller, *name = *controller ? controller : "unified";
        char to[64];
        snprintf(to, sizeof to, "sys/fs/cgroup/%s", name);
        need(mkdir(to, 0755) == 0, to);
        need(mount("cgroup", to, *controller ? "cgroup" : "cgroup2", QUIET | MS_RDONLY, *controller ? controller : NULL) == 0, to);
    }
}

/* After it. What this kernel does not have is left out, as podrun does. */
static void mask(void) {
    EACH(path, READ_ONLY)
        if (mount(*path, *path, NULL, MS_BIND, NULL) == 0)
            need(mount(NULL, *path, NULL, MS_REMOUNT | MS_BIND | MS_RDONLY | QUIET, NULL) == 0, *path);
    EACH(path, MASKED_FILES) mount("/dev/null", *path, NULL, MS_BIND, NULL);
    need(mount("tmpfs", "/proc/acpi", "tmpfs", QUIET | MS_RDONLY, "mode=555,size=4k") == 0 || errno == ENOENT, "mask");
    EACH(path, MASKED_DIRS) mount("/proc/acpi", *path, NULL, MS_BIND, NULL);
}

static void app(char *rootfs, char **argv) {
    char options[1024];
    for (int i = 1; i < COUNT; i++) need(write(hierarchies[i].app_procs, "0", 1) == 1, "tasks");
    need(unshare(CLONE_NEWNS | CLONE_NEWCGROUP) == 0, "unshare");
    need(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0, "private");
    int lower = open(rootfs, O_PATH | O_DIRECTORY | O_CLOEXEC);
    need(lower >= 0, rootfs);
    /* Any directory that is there will do: it is covered in this namespace alone. */
    need(mount("tmpfs", "/tmp", "tmpfs", MS_NOSUID | MS_NODEV, "mode=700") == 0, "tmpfs");
    need(mkdir("/tmp/u", 0755) == 0 && mkdir("/tmp/w", 0755) == 0 && mkdir("/tmp/r", 0755) == 0, "mkdir");
    need(fchdir(lower) == 0, rootfs);
    snprintf(options, sizeof options, "lowerdir=.,upperdir=/tmp/u,workdir=/tmp/w");
    need(mount("overlay", "/tmp/r", "overlay", 0, options) == 0, "overlay");
    need(mount("proc", "/tmp/r/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) == 0, "proc");
    need(chdir("/tmp/r") == 0, "chdir");
    if (with_views) mount_views();
    need(syscall(SYS_pivot_root, ".", ".") == 0, "pivot_root");
    need(umount2(".", MNT_DETACH) == 0, "umount");
    if (with_views) mask();
    need(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0, "no_new_privs");
    char *environment[] = {"PATH=/bin", NULL};
    execve(argv[0], argv, environment);
    need(0, argv[0]);
}

static void pid_1(char *rootfs, char **argv) {
    for (int i = 1; i < COUNT; i++) {
        int fd = procs(&hierarchies[i], "/supervisor");
        need(fd >= 0 && write(fd, "0", 1) == 1, "supervisor");
        close(fd);
    }
    need(sethostname("floor", 5) == 0, "sethostname");
    pid_t pid = clone_into("/app", 0);
    if (pid == 0) app(rootfs, argv);
    _exit(wait_for(pid));
}

int main(int argc, char **argv) {
    with_views = argc > 1 && !strcmp(argv[1], "--views");
    argc -= with_views;
    argv += with_views;
    if (argc < 3) {
        fprintf(stderr, "usage: floor [--views] ROOTFS PROGRAM [ARGUMENT...]\n");
        return 125;
    }
    snprintf(group, sizeof group, "podrun-floor-%d", getpid());
    find_hierarchies();
    make_groups();
    pid_t pid = clone_into("/supervisor", CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC);
    if (pid == 0) pid_1(argv[1], argv + 2);
    int code = wait_for(pid);
    remove_groups();
    return code;
}
