// Times commands that take turns: `turns ROUNDS OUTPUT <COMMANDS`. Each line is
// `name TAB step TAB argument TAB argument ...`; the lines of a name belong
// together and keep their order, the names' order is another in each round. Every
// command's output goes to the file OUTPUT. Prints `name step microseconds` for
// each, from posix_spawn to the end of the process. The first round fills caches
// and is not printed; a command that fails ends it all.
#define _GNU_SOURCE
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

struct command {
    char *name, *step, *argument[64];
};

static struct command commands[256];
static int count;

static void must(int ok, const char *what) {
    if (!ok) {
        perror(what);
        exit(1);
    }
}

static void read_commands(void) {
    char *line = NULL;
    size_t size = 0;
    while (count < 256 && getline(&line, &size, stdin) > 0) {
        struct command *command = &commands[count++];
        int given = 0;
        line[strcspn(line, "\n")] = 0;
        char *rest = strdup(line);
        command->name = strsep(&rest, "\t");
        command->step = strsep(&rest, "\t");
        while (rest && given < 63)
            command->argument[given++] = strsep(&rest, "\t");
        must(given > 0, "a line without a command");
    }
}

static long microseconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

static void run(const struct command *command, posix_spawn_file_actions_t *actions, int print) {
    pid_t pid;
    int status;
    long before = microseconds();
    must(posix_spawnp(&pid, command->argument[0], actions, NULL, command->argument, environ) == 0,
         command->argument[0]);
    must(waitpid(pid, &status, 0) == pid, "waitpid");
    long after = microseconds();
    if (status != 0) {
        fprintf(stderr, "%s %s failed\n", command->name, command->step);
        exit(1);
    }
    if (print)
        printf("%s %s %ld\n", command->name, command->step, after - before);
}

int main(int argc, char **argv) {
    int first[256], names = 0;
    posix_spawn_file_actions_t actions;
    if (argc != 3)
        return 2;
    read_commands();
    for (int i = 0; i < count; i++)
        if (i == 0 || strcmp(commands[i].name, commands[i - 1].name) != 0)
            first[names++] = i;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_addopen(&actions, 1, argv[2], O_WRONLY | O_CREAT | O_TRUNC, 0600);
    posix_spawn_file_actions_adddup2(&actions, 1, 2);
    srand((unsigned)getpid());
    for (int round = -1; round < atoi(argv[1]); round++) {
        for (int i = names - 1; i > 0; i--) {
            int j = rand() % (i + 1), swapped = first[i];
            first[i] = first[j];
            first[j] = swapped;
        }
        for (int i = 0; i < names; i++) {
            int at = first[i];
            for (; at < count && strcmp(commands[at].name, commands[first[i]].name) == 0; at++)
                run(&commands[at], &actions, round >= 0);
        }
    }
    return 0;
}
