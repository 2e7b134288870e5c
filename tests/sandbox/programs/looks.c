/* What a job finds: printed whole, so that a test can hold one job's against another's. */
#include "attack.h"
#include <dirent.h>
#include <grp.h>

static void list(const char *path) {
    struct dirent **names;
    int count = scandir(path, &names, NULL, alphasort);
    printf("%s:", path);
    for (int i = 0; i < count; i++)
        if (names[i]->d_name[0] != '.' || names[i]->d_name[1]) printf(" %s", names[i]->d_name);
    puts(count < 0 ? " none" : "");
}

static void copy(const char *path, const char *only) {
    FILE *file = fopen(path, "r");
    char line[4096];
    while (file && fgets(line, sizeof line, file))
        if (!only || strstr(line, only)) printf("%s: %s", path, line);
    if (file) fclose(file);
}

/* Without the numbers of mounts and devices, which differ between jails. */
static void mounts(void) {
    FILE *file = fopen("/proc/self/mountinfo", "r");
    char line[4096];
    int start;
    while (file && fgets(line, sizeof line, file))
        if (sscanf(line, "%*d %*d %*s %n", &start) == 0) printf("mount: %.*s\n", (int)(strstr(line, " - ") - line - start), line + start);
    if (file) fclose(file);
}

static void status(void) {
    const char *kept[] = {"Umask", "TracerPid", "Uid", "Gid", "Groups", "SigQ", "SigPnd", "ShdPnd", "SigBlk", "SigIgn", "SigCgt", "Cap",
                          "NoNewPrivs", "Seccomp", "Cpus_allowed_list", "CoreDumping", "Threads"};
    FILE *file = fopen("/proc/self/status", "r");
    char line[4096];
    while (file && fgets(line, sizeof line, file))
        for (size_t i = 0; i < COUNT(kept); i++)
            if (!strncmp(line, kept[i], strlen(kept[i]))) fputs(line, stdout);
}

static void processes(void) {
    DIR *proc = opendir("/proc");
    int count = 0;
    for (struct dirent *entry; proc && (entry = readdir(proc));) count += entry->d_name[0] >= '0' && entry->d_name[0] <= '9';
    printf("processes: %d\n", count);
}

static int surroundings(int argc, char **argv) {
    (void)argc, (void)argv;
    char text[4096];
    const char *folders[] = {"/", ".", "/tmp", "/dev", "/dev/shm", "/dev/mqueue", "/box", "/var/tmp", "/run", "/home", "/dev/pts"};
    for (size_t i = 0; i < COUNT(folders); i++) list(folders[i]);
    processes(), status();
    printf("cwd %s, nice %d, scheduler %d, session %d group %d, personality %ld\n", getcwd(text, sizeof text), getpriority(PRIO_PROCESS, 0),
           sched_getscheduler(0), getsid(0) == getpid(), getpgrp() == getpid(), syscall(SYS_personality, 0xffffffffL));
    for (int i = 0; i < 16; i++) {
        struct rlimit limit;
        getrlimit(i, &limit);
        printf("limit %d: %ld %ld\n", i, (long)limit.rlim_cur, (long)limit.rlim_max);
    }
    for (int fd = 0; fd < 1024; fd++)
        if (fcntl(fd, F_GETFD) >= 0) printf("descriptor %d: flags %x %x\n", fd, fcntl(fd, F_GETFD), fcntl(fd, F_GETFL) & ~O_LARGEFILE);
    copy("/proc/sysvipc/shm", NULL), copy("/proc/sysvipc/sem", NULL), copy("/proc/sysvipc/msg", NULL);
    copy("/proc/net/unix", "left"), copy("/proc/net/tcp", NULL), copy("/proc/net/dev", NULL), copy("/proc/net/route", NULL);
    mounts(), copy("/proc/self/timerslack_ns", NULL);
    copy("/proc/self/oom_score_adj", NULL), copy("/proc/self/coredump_filter", NULL), copy("/proc/sys/kernel/hostname", NULL);
    copy("/proc/sys/kernel/shmmax", NULL), copy("/proc/sys/kernel/msgmax", NULL), copy("/proc/sys/fs/mqueue/msg_max", NULL);
    copy("/proc/sys/net/ipv4/ip_forward", NULL), copy("/proc/sys/user/max_user_namespaces", NULL);
    copy("/proc/keys", NULL);
    gethostname(text, sizeof text), printf("host %s\n", text);
    return 0;
}

static int environment(int argc, char **argv) {
    (void)argc, (void)argv;
    extern char **environ;
    char path[60], block[65536];
    for (char **word = environ; *word; word++) puts(*word);
    fflush(stdout);
    for (int pid = 1; pid < 300; pid++) {
        snprintf(path, sizeof path, "/proc/%d/environ", pid);
        int fd = open(path, O_RDONLY);
        for (ssize_t size; fd >= 0 && (size = read(fd, block, sizeof block)) > 0;)
            if (write(1, block, size) < 0) return 1;
        snprintf(path, sizeof path, "/proc/%d/cmdline", pid);
        fd = open(path, O_RDONLY);
        for (ssize_t size; fd >= 0 && (size = read(fd, block, sizeof block)) > 0;)
            if (write(1, block, size) < 0) return 1;
    }
    return 0;
}

/* Uses this much, then says what it has used, as the kernel told it: microseconds of processor time, bytes at the peak. */
static int spend(int argc, char **argv) {
    double seconds = argc > 1 ? atof(argv[1]) : 0;
    long size = argc > 2 ? atol(argv[2]) * MIB : 0, peak = 0;
    char *room = malloc(size), line[200];
    for (long at = 0; at < size; at += 4096) room[at] = 1;
    burn(seconds);
    FILE *status = fopen("/proc/self/status", "r");
    while (status && fgets(line, sizeof line, status)) sscanf(line, "VmHWM: %ld", &peak);
    struct timespec time;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
    printf("%ld %ld\n", time.tv_sec * 1000000 + time.tv_nsec / 1000, peak * 1024);
    return 0;
}

/* The same in a process that nobody waits for. */
static int spend_in_orphan(int argc, char **argv) {
    int ends[2];
    char byte;
    if (pipe(ends)) return 1;
    pid_t pid = fork();
    if (!pid) {
        if (fork()) _exit(0);
        close(ends[0]);
        spend(argc, argv), fflush(stdout);
        _exit(0);
    }
    close(ends[1]), waitpid(pid, NULL, 0);
    return read(ends[0], &byte, 1) == 0 ? 0 : 1;
}

static int mark(int argc, char **argv) {
    return puts(argc > 1 ? argv[1] : "here") < 0;
}

/* All the memory that a process shows of itself, for secrets that a parent left in it. */
static int own_memory(int argc, char **argv) {
    (void)argc, (void)argv;
    FILE *maps = fopen("/proc/self/maps", "r");
    int memory = open("/proc/self/mem", O_RDONLY);
    char line[4096], rights[8];
    unsigned long start, end;
    static char block[65536];
    while (maps && fgets(line, sizeof line, maps))
        if (sscanf(line, "%lx-%lx %4s", &start, &end, rights) == 3 && rights[1] == 'w' && !strstr(line, "[v"))
            for (; start < end; start += sizeof block) {
                size_t want = end - start < sizeof block ? end - start : sizeof block;
                ssize_t size = pread(memory, block, want, (off_t)start);
                if (size > 0 && write(1, block, size) < 0) return 1;
            }
    return 0;
}

const struct attack looks[] = {{"surroundings", surroundings}, {"environment", environment}, {"own-memory", own_memory}, {"spend", spend}, {"spend-in-orphan", spend_in_orphan}, {"mark", mark}, {0}};
