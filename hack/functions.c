// Which functions of a program run, and in which of several commands. hack/order
// makes of it the order in which they are linked.
//
//   functions PROGRAM FUNCTIONS OUTPUT COMMAND... [-- COMMAND...]...
//
// FUNCTIONS has an address a line, hexadecimal, in ascending order (of nm); each is
// given a breakpoint in every process that executes PROGRAM, until it is met. The
// commands run one after the other, also when processes of an earlier one are left.
// A line `ADDRESS COMMANDS` is appended to OUTPUT for each function, in the order in
// which they first ran; a process counts for the command that began it.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

enum { COMMANDS = 32, PROCESSES = 256, BREAKPOINT = 0xcc };

struct process {
    pid_t pid;
    int command;
    unsigned long base; // 0: not the program
};

static const char *program;
static unsigned long *addresses;
static unsigned *met; // a bit for each command
static size_t *order, functions, ran;
static unsigned char *code;
static unsigned long code_size;
static struct process processes[PROCESSES];

static void must(int ok, const char *what) {
    if (!ok) {
        perror(what);
        exit(1);
    }
}

static struct process *find(pid_t pid) {
    for (size_t i = 0; i < PROCESSES; i++)
        if (processes[i].pid == pid)
            return &processes[i];
    return NULL;
}

// A new process, which a stop of it or the event of its parent may tell of first.
static struct process *add(pid_t pid) {
    struct process *known = find(pid);
    if (known)
        return known;
    known = find(0);
    must(known != NULL, "processes");
    *known = (struct process){.pid = pid, .command = -1};
    return known;
}

static int memory(pid_t pid) {
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/mem", pid);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    must(fd >= 0, path);
    return fd;
}

// Where the program lies in a process; 0 if that executes another one. A sealed
// program has the same name.
static unsigned long base_of(pid_t pid) {
    char path[64], line[4096];
    unsigned long base = 0;
    snprintf(path, sizeof path, "/proc/%d/maps", pid);
    FILE *maps = fopen(path, "re");
    must(maps != NULL, path);
    while (!base && fgets(line, sizeof line, maps)) {
        line[strcspn(line, "\n")] = 0;
        char *name = strrchr(line, '/');
        if (name && strcmp(name + 1, program) == 0)
            base = strtoul(line, NULL, 16);
    }
    fclose(maps);
    return base;
}

static void plant(struct process *process) {
    process->base = base_of(process->pid);
    if (!process->base)
        return;
    unsigned long start = process->base + addresses[0];
    unsigned char *text = malloc(code_size);
    int fd = memory(process->pid);
    must(pread(fd, text, code_size, start) == (ssize_t)code_size, "read the program");
    if (!code) {
        code = malloc(code_size);
        memcpy(code, text, code_size);
    }
    for (size_t i = 0; i < functions; i++)
        text[addresses[i] - addresses[0]] = BREAKPOINT;
    must(pwrite(fd, text, code_size, start) == (ssize_t)code_size, "write breakpoints");
    close(fd);
    free(text);
}

static int compare(const void *a, const void *b) {
    unsigned long x = *(const unsigned long *)a, y = *(const unsigned long *)b;
    return x < y ? -1 : x > y;
}

// Whether a trap was one of ours: then the function is noted, and goes on.
static int meet(struct process *process) {
    struct user_regs_struct registers;
    must(ptrace(PTRACE_GETREGS, process->pid, 0, &registers) == 0, "PTRACE_GETREGS");
    unsigned long address = registers.rip - 1 - process->base;
    unsigned long *found = bsearch(&address, addresses, functions, sizeof address, compare);
    if (!process->base || !found)
        return 0;
    size_t i = found - addresses;
    if (!met[i])
        order[ran++] = i;
    met[i] |= 1u << process->command;
    int fd = memory(process->pid);
    must(pwrite(fd, code + (address - addresses[0]), 1, registers.rip - 1) == 1, "restore");
    close(fd);
    registers.rip--;
    must(ptrace(PTRACE_SETREGS, process->pid, 0, &registers) == 0, "PTRACE_SETREGS");
    return 1;
}

// Waits for one event; the process that ended, or 0.
static pid_t event(int *status) {
    pid_t pid = waitpid(-1, status, __WALL);
    must(pid > 0, "waitpid");
    struct process *process = add(pid);
    if (!WIFSTOPPED(*status)) {
        process->pid = 0;
        return pid;
    }
    int signal = WSTOPSIG(*status), what = *status >> 16, deliver = 0;
    unsigned long child;
    if (what == PTRACE_EVENT_EXEC) {
        plant(process);
        if (!process->base) {
            ptrace(PTRACE_DETACH, pid, 0, 0);
            process->pid = 0;
            return 0;
        }
    } else if (what) {
        must(ptrace(PTRACE_GETEVENTMSG, pid, 0, &child) == 0, "PTRACE_GETEVENTMSG");
        struct process *new = add(child);
        int early = new->command == -2;
        new->command = process->command;
        new->base = process->base;
        if (early)
            ptrace(PTRACE_CONT, child, 0, 0);
    } else if (process->command == -1) {
        // Stopped before its parent's event: it goes on with that.
        process->command = -2;
        return 0;
    } else if (signal == SIGTRAP) {
        deliver = meet(process) ? 0 : signal;
    } else if (signal != SIGSTOP) {
        deliver = signal;
    }
    ptrace(PTRACE_CONT, pid, 0, deliver);
    return 0;
}

static void run(int number, char **words) {
    int status;
    pid_t pid = fork();
    must(pid >= 0, "fork");
    if (pid == 0) {
        ptrace(PTRACE_TRACEME, 0, 0, 0);
        raise(SIGSTOP);
        execvp(words[0], words);
        perror(words[0]);
        _exit(127);
    }
    must(waitpid(pid, &status, 0) == pid && WIFSTOPPED(status), "wait for the first stop");
    struct process *process = add(pid);
    process->command = number;
    long options = PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACECLONE | PTRACE_O_TRACEEXEC;
    must(ptrace(PTRACE_SETOPTIONS, pid, 0, options) == 0, "PTRACE_SETOPTIONS");
    ptrace(PTRACE_CONT, pid, 0, 0);
    while (event(&status) != pid)
        ;
    if (!WIFEXITED(status) || WEXITSTATUS(status)) {
        fprintf(stderr, "command %d of the traced ones failed: wait status %#x\n", number + 1, status);
        exit(1);
    }
}

int main(int argc, char **argv) {
    must(argc > 4, "usage: functions PROGRAM FUNCTIONS OUTPUT COMMAND... [-- COMMAND...]...");
    program = strrchr(argv[1], '/') ? strrchr(argv[1], '/') + 1 : argv[1];
    FILE *list = fopen(argv[2], "re");
    must(list != NULL, argv[2]);
    struct stat size;
    must(fstat(fileno(list), &size) == 0, argv[2]);
    // Two bytes a line at least.
    size_t most = size.st_size / 2 + 1;
    addresses = calloc(most, sizeof *addresses);
    met = calloc(most, sizeof *met);
    order = calloc(most, sizeof *order);
    while (fscanf(list, "%lx", &addresses[functions]) == 1)
        functions++;
    fclose(list);
    if (!functions) {
        fprintf(stderr, "%s: no functions\n", argv[2]);
        return 1;
    }
    code_size = addresses[functions - 1] - addresses[0] + 1;

    int number = 0;
    for (char **words = argv + 4; *words && number < COMMANDS; number++) {
        char **end = words;
        while (*end && strcmp(*end, "--") != 0)
            end++;
        char **next = *end ? end + 1 : end;
        *end = NULL;
        run(number, words);
        words = next;
    }
    FILE *output = fopen(argv[3], "ae");
    must(output != NULL, argv[3]);
    for (size_t i = 0; i < ran; i++)
        fprintf(output, "%lx %d\n", addresses[order[i]], __builtin_popcount(met[order[i]]));
    must(fclose(output) == 0, argv[3]);
    return 0;
}
