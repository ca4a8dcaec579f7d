// The least work that a container of hack/bench's bundle needs from the kernel,
// written down without a runtime: no configuration is read, nothing is checked,
// no path is opened safely, nothing is undone. hack/bench uses it as the floor
// that a runtime's own cost is measured from.
//
//   floor create DIR ROOTFS CGROUP HIERARCHY...   the process waits at DIR/start
//   floor start DIR                               it becomes /bin/sleep
//   floor exec DIR CGROUP HIERARCHY...            /bin/true runs beside it
//   floor delete DIR CGROUP HIERARCHY...          it is killed, all is removed
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

static void must(int ok, const char *what) {
    if (!ok) {
        perror(what);
        exit(1);
    }
}

static char *join(const char *a, const char *b, const char *c) {
    char *path = NULL;
    must(asprintf(&path, "%s/%s%s", a, b, c) > 0, "asprintf");
    return path;
}

static int put(const char *path, const char *text) {
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    ssize_t written = write(fd, text, strlen(text));
    close(fd);
    return written > 0;
}

static void copy(const char *from, const char *to) {
    char text[256];
    int fd = open(from, O_RDONLY | O_CLOEXEC);
    ssize_t size = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    must(size > 0, from);
    close(fd);
    text[size] = 0;
    must(put(to, text), to);
}

static const char *last(const char *path) { return strrchr(path, '/') + 1; }

static void make_cgroup(const char *hierarchy, const char *cgroup) {
    char *dir = join(hierarchy, cgroup, "");
    must(mkdir(dir, 0755) == 0, dir);
    if (strcmp(last(hierarchy), "cpuset") == 0) {
        copy(join(hierarchy, "", "cpuset.cpus"), join(dir, "", "cpuset.cpus"));
        copy(join(hierarchy, "", "cpuset.mems"), join(dir, "", "cpuset.mems"));
    }
    if (strcmp(last(hierarchy), "devices") == 0) {
        static const char *allowed[] = {"b *:* m",   "c *:* m",   "c 1:3 rwm", "c 1:5 rwm",
                                        "c 1:7 rwm", "c 1:8 rwm", "c 1:9 rwm", "c 5:0 rwm",
                                        "c 5:2 rwm", "c 136:* rwm"};
        must(put(join(dir, "", "devices.deny"), "a *:* rwm"), "deny");
        for (size_t i = 0; i < sizeof allowed / sizeof *allowed; i++)
            must(put(join(dir, "", "devices.allow"), allowed[i]), allowed[i]);
    }
}

static void enter_cgroup(const char *cgroup, char **hierarchies) {
    for (char **h = hierarchies; *h; h++)
        must(put(join(*h, cgroup, "/tasks"), "0") || put(join(*h, cgroup, "/cgroup.procs"), "0"), *h);
}

static int is_v2(char **hierarchies) {
    return !hierarchies[1] && access(join(*hierarchies, "", "cgroup.controllers"), F_OK) == 0;
}

// The rules of the devices cgroup above, for version 2: each is a few
// instructions on the type, access, major and minor that the kernel gives.
static void filter(int cgroup) {
    static const int rules[][2] = {{1, 3}, {1, 5}, {1, 7}, {1, 8}, {1, 9}, {5, 0}, {5, 2}, {136, -1}};
    struct bpf_insn code[128];
    int n = 0;
    const struct bpf_insn allow[] = {{BPF_ALU64 | BPF_MOV | BPF_K, 0, 0, 0, 1},
                                     {BPF_JMP | BPF_EXIT, 0, 0, 0, 0}};
    const struct bpf_insn load[] = {{BPF_LDX | BPF_MEM | BPF_W, 2, 1, 0, 0},
                                    {BPF_ALU64 | BPF_MOV | BPF_X, 3, 2, 0, 0},
                                    {BPF_ALU64 | BPF_AND | BPF_K, 2, 0, 0, 0xffff},
                                    {BPF_ALU64 | BPF_RSH | BPF_K, 3, 0, 0, 16},
                                    {BPF_LDX | BPF_MEM | BPF_W, 4, 1, 4, 0},
                                    {BPF_LDX | BPF_MEM | BPF_W, 5, 1, 8, 0}};
    memcpy(code, load, sizeof load);
    n += sizeof load / sizeof *load;
    // mknod of anything
    code[n++] = (struct bpf_insn){BPF_JMP | BPF_JNE | BPF_K, 3, 0, 2, BPF_DEVCG_ACC_MKNOD};
    memcpy(&code[n], allow, sizeof allow);
    n += 2;
    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++) {
        short skip = rules[i][1] < 0 ? 3 : 4;
        code[n++] = (struct bpf_insn){BPF_JMP | BPF_JNE | BPF_K, 2, 0, skip, BPF_DEVCG_DEV_CHAR};
        code[n++] = (struct bpf_insn){BPF_JMP | BPF_JNE | BPF_K, 4, 0, skip - 1, rules[i][0]};
        if (rules[i][1] >= 0)
            code[n++] = (struct bpf_insn){BPF_JMP | BPF_JNE | BPF_K, 5, 0, 2, rules[i][1]};
        memcpy(&code[n], allow, sizeof allow);
        n += 2;
    }
    code[n++] = (struct bpf_insn){BPF_ALU64 | BPF_MOV | BPF_K, 0, 0, 0, 0};
    code[n++] = allow[1];
    union bpf_attr attr = {.prog_type = BPF_PROG_TYPE_CGROUP_DEVICE,
                           .insns = (unsigned long)code,
                           .insn_cnt = (unsigned)n,
                           .license = (unsigned long)"Apache"};
    int program = (int)syscall(SYS_bpf, BPF_PROG_LOAD, &attr, sizeof attr);
    must(program >= 0, "load the filter");
    union bpf_attr to = {.target_fd = (unsigned)cgroup,
                         .attach_bpf_fd = (unsigned)program,
                         .attach_type = BPF_CGROUP_DEVICE,
                         .attach_flags = BPF_F_ALLOW_MULTI};
    must(syscall(SYS_bpf, BPF_PROG_ATTACH, &to, sizeof to) == 0, "attach the filter");
}

static pid_t process_of(const char *dir) {
    char text[32] = {0};
    int fd = open(join(dir, "", "pid"), O_RDONLY | O_CLOEXEC);
    must(read(fd, text, sizeof text - 1) > 0, "pid");
    close(fd);
    return atoi(text);
}

static void attach(const char *type, const char *at, unsigned long flags, const char *data) {
    mkdir(at, 0755);
    must(mount(type, at, type, flags, data) == 0, at);
}

static void node(const char *path, unsigned major_number, unsigned minor_number) {
    must(mknod(path, S_IFCHR | 0666, makedev(major_number, minor_number)) == 0, path);
}

static void hide(const char *path) {
    struct stat st;
    if (stat(path, &st) != 0)
        return;
    if (S_ISDIR(st.st_mode))
        must(mount("tmpfs", path, "tmpfs", MS_RDONLY, NULL) == 0, path);
    else
        must(mount("/dev/null", path, NULL, MS_BIND, NULL) == 0, path);
}

static void protect(const char *path) {
    if (mount(path, path, NULL, MS_BIND | MS_REC, NULL) == 0)
        must(mount(path, path, NULL, MS_BIND | MS_REMOUNT | MS_RDONLY, NULL) == 0, path);
}

static void show_cgroup(const char *source, const char *path) {
    const unsigned long plain = MS_NOSUID | MS_NODEV | MS_NOEXEC;
    must(mount(source, path, NULL, MS_BIND, NULL) == 0, source);
    must(mount(NULL, path, NULL, MS_BIND | MS_REMOUNT | MS_RDONLY | plain, NULL) == 0, path);
}

static void enter_root(const char *rootfs, const char *cgroup, char **hierarchies) {
    const unsigned long plain = MS_NOSUID | MS_NODEV | MS_NOEXEC;
    must(mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL) == 0, "slave");
    must(mount(rootfs, rootfs, NULL, MS_BIND | MS_REC, NULL) == 0, rootfs);
    must(chdir(rootfs) == 0, rootfs);
    attach("proc", "proc", plain, NULL);
    attach("tmpfs", "dev", MS_NOSUID | MS_STRICTATIME, "mode=755,size=65536k");
    attach("devpts", "dev/pts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620,gid=5");
    attach("tmpfs", "dev/shm", plain, "mode=1777,size=65536k");
    attach("mqueue", "dev/mqueue", plain, NULL);
    attach("sysfs", "sys", plain | MS_RDONLY, NULL);
    if (is_v2(hierarchies)) {
        show_cgroup(join(*hierarchies, cgroup, ""), "sys/fs/cgroup");
    } else {
        attach("tmpfs", "sys/fs/cgroup", plain, "mode=755");
        for (char **h = hierarchies; *h; h++) {
            char *path = join("sys/fs/cgroup", last(*h), "");
            must(mkdir(path, 0755) == 0, path);
            show_cgroup(join(*h, cgroup, ""), path);
        }
        must(mount(NULL, "sys/fs/cgroup", NULL, MS_REMOUNT | MS_RDONLY | plain, NULL) == 0, "cgroup");
    }
    node("dev/null", 1, 3);
    node("dev/zero", 1, 5);
    node("dev/full", 1, 7);
    node("dev/random", 1, 8);
    node("dev/urandom", 1, 9);
    node("dev/tty", 5, 0);
    must(symlink("pts/ptmx", "dev/ptmx") == 0, "ptmx");
    must(symlink("/proc/self/fd", "dev/fd") == 0, "fd");
    must(symlink("fd/0", "dev/stdin") == 0 && symlink("fd/1", "dev/stdout") == 0 &&
             symlink("fd/2", "dev/stderr") == 0,
         "stdio");
    must(syscall(SYS_pivot_root, ".", ".") == 0, "pivot_root");
    must(umount2(".", MNT_DETACH) == 0, "umount");
    must(chdir("/") == 0, "chdir");
    static const char *hidden[] = {"/proc/acpi",          "/proc/kcore",       "/proc/keys",
                                   "/proc/latency_stats", "/proc/timer_list",  "/proc/timer_stats",
                                   "/proc/sched_debug",   "/proc/scsi",        "/sys/firmware"};
    static const char *fixed[] = {"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys",
                                  "/proc/sysrq-trigger"};
    for (size_t i = 0; i < sizeof hidden / sizeof *hidden; i++)
        hide(hidden[i]);
    for (size_t i = 0; i < sizeof fixed / sizeof *fixed; i++)
        protect(fixed[i]);
}

static void create(const char *dir, const char *rootfs, const char *cgroup, char **hierarchies) {
    must(mkdir(dir, 0700) == 0, dir);
    must(mkfifo(join(dir, "", "start"), 0600) == 0, "mkfifo");
    for (char **h = hierarchies; *h; h++)
        make_cgroup(*h, cgroup);
    int into = -1, ready[2];
    if (is_v2(hierarchies)) {
        into = open(join(*hierarchies, cgroup, ""), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        must(into >= 0, cgroup);
        filter(into);
    }
    must(pipe2(ready, O_CLOEXEC) == 0, "pipe");
    int gate = open(join(dir, "", "start"), O_RDWR | O_CLOEXEC);
    struct clone_args args = {.flags = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWUTS | CLONE_NEWIPC |
                                       CLONE_NEWNET,
                              .exit_signal = SIGCHLD};
    if (into >= 0) {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = (unsigned long long)into;
    }
    long pid = syscall(SYS_clone3, &args, sizeof args);
    must(pid >= 0, "clone3");
    if (pid == 0) {
        char byte;
        if (into < 0)
            enter_cgroup(cgroup, hierarchies);
        else
            must(unshare(CLONE_NEWCGROUP) == 0, "unshare");
        setsid();
        sethostname("floor", 5);
        enter_root(rootfs, cgroup, hierarchies);
        must(write(ready[1], "r", 1) == 1, "ready");
        close(ready[1]);
        must(read(gate, &byte, 1) == 1, "gate");
        execl("/bin/sleep", "sleep", "1000", NULL);
        _exit(1);
    }
    char text[32];
    close(ready[1]);
    must(read(ready[0], text, 1) == 1, "the process");
    int length = snprintf(text, sizeof text, "%ld", pid);
    int fd = open(join(dir, "", "pid"), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    must(write(fd, text, (size_t)length) == length, "pid");
}

static void beside(const char *dir, const char *cgroup, char **hierarchies) {
    int init = (int)syscall(SYS_pidfd_open, process_of(dir), 0);
    int status = 0, namespaces = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWNET;
    struct clone_args args = {.exit_signal = SIGCHLD};
    must(init >= 0, "pidfd_open");
    if (is_v2(hierarchies)) {
        // By writing the process there the kernel waits for all processors.
        int into = open(join(*hierarchies, cgroup, ""), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        must(into >= 0, cgroup);
        args.flags = CLONE_INTO_CGROUP;
        args.cgroup = (unsigned long long)into;
        namespaces |= CLONE_NEWCGROUP;
    } else {
        enter_cgroup(cgroup, hierarchies);
    }
    must(setns(init, namespaces) == 0, "setns");
    long pid = syscall(SYS_clone3, &args, sizeof args);
    if (pid == 0) {
        execl("/bin/true", "true", NULL);
        _exit(1);
    }
    must(waitpid((pid_t)pid, &status, 0) == pid && status == 0, "true");
}

static void drop(const char *dir, const char *cgroup, char **hierarchies) {
    kill(process_of(dir), SIGKILL);
    for (char **h = hierarchies; *h; h++) {
        char *path = join(*h, cgroup, "");
        while (rmdir(path) != 0 && errno == EBUSY)
            usleep(100);
    }
    unlink(join(dir, "", "pid"));
    unlink(join(dir, "", "start"));
    must(rmdir(dir) == 0, dir);
}

int main(int argc, char **argv) {
    if (argc >= 5 && strcmp(argv[1], "create") == 0)
        create(argv[2], argv[3], argv[4], argv + 5);
    else if (argc == 3 && strcmp(argv[1], "start") == 0)
        must(put(join(argv[2], "", "start"), "s"), "start");
    else if (argc >= 4 && strcmp(argv[1], "exec") == 0)
        beside(argv[2], argv[3], argv + 4);
    else if (argc >= 4 && strcmp(argv[1], "delete") == 0)
        drop(argv[2], argv[3], argv + 4);
    else
        return 2;
    return 0;
}
