/* Processes: too many, left behind, hidden, and turned against those that watch. */
#include "attack.h"
#include <sys/ptrace.h>
#include <sys/uio.h>
#include <sys/syscall.h>
#include <linux/sched.h>
#include <sys/prctl.h>

static int fork_count(int argc, char **argv) {
    int most = argc > 1 ? atoi(argv[1]) : 64, made = 0;
    while (made < most && child(sleep_for_ever) > 0) made++;
    return made >= most ? breach("%d processes", made) : held("%d processes", made);
}

/* Safe only in a jail: tests run it nowhere else. */
static int fork_bomb(int argc, char **argv) {
    (void)argc, (void)argv;
    while (fork() >= -1) {
    }
    return 0;
}

static void *sleep_thread(void *none) {
    sleep_for_ever();
    return none;
}

static int thread_count(int argc, char **argv) {
    int most = argc > 1 ? atoi(argv[1]) : 64, made = 0;
    pthread_attr_t small;
    pthread_t thread;
    pthread_attr_init(&small);
    pthread_attr_setstacksize(&small, 16384);
    while (made < most && !(errno = pthread_create(&thread, &small, sleep_thread, NULL))) made++;
    return made >= most ? breach("%d threads", made) : held("%d threads", made);
}

static void daemonize(void) {
    signal(SIGHUP, SIG_IGN), signal(SIGTERM, SIG_IGN);
    setsid();
    if (fork()) _exit(0);
    prctl(PR_SET_NAME, ") R 1 1 1\n");
    prctl(PR_SET_PDEATHSIG, 0);
    clearenv();
    if (chdir("/")) _exit(1);
}

static void quiet_daemon(void) {
    daemonize();
    for (int fd = 0; fd < 100; fd++) close(fd);
    sleep_for_ever();
}

static int leave_daemon(int argc, char **argv) {
    (void)argc, (void)argv;
    waitpid(child(quiet_daemon), NULL, 0);
    return held("a daemon is left");
}

static void holding_daemon(void) {
    daemonize();
    sleep_for_ever();
}

static int daemon_holds_stdout(int argc, char **argv) {
    (void)argc, (void)argv;
    waitpid(child(holding_daemon), NULL, 0);
    return held("a daemon holds my stdout");
}

static void chatty_daemon(void) {
    daemonize();
    for (;;) {
        if (write(1, "still here\n", 11) < 0) usleep(1000);
        usleep(1000);
    }
}

static int daemon_talks_on(int argc, char **argv) {
    (void)argc, (void)argv;
    waitpid(child(chatty_daemon), NULL, 0);
    return held("a daemon talks on");
}

/* New processes all the time, each in a session of its own, so that who kills one by one never comes to an end. */
static void reborn(void) {
    for (;;) {
        if (fork()) _exit(0);
        setsid();
    }
}

static int hydra(int argc, char **argv) {
    (void)argc, (void)argv;
    for (int i = 0; i < 4; i++) child(reborn);
    usleep(50000);
    return held("a hydra is left");
}

/* A brother instead of a child: whoever waits for the job finds another one ended. */
static int false_brother(int argc, char **argv) {
    int code = argc > 1 ? atoi(argv[1]) : 0;
    if (!syscall(SYS_clone, CLONE_PARENT | SIGCHLD, 0, 0, 0, 0)) {
        if (code > 255) kill(getpid(), code - 256);
        _exit(code);
    }
    usleep(100000);
    _exit(7);
}

static int signal_everyone(int argc, char **argv) {
    (void)argc, (void)argv;
    for (int i = 1; i < 65; i++) signal(i, SIG_IGN);
    for (int i = 1; i < 65; i++) {
        kill(1, i), kill(getppid(), i), syscall(SYS_tgkill, 1, 1, i);
        union sigval value = {.sival_int = 1};
        sigqueue(1, i, value);
    }
    usleep(20000);
    return held("signals to all processes but me");
}

static int kill_all(int argc, char **argv) {
    (void)argc, (void)argv;
    child(sleep_for_ever);
    kill(-1, SIGKILL);
    kill(1, SIGKILL);
    return held("killed the others");
}

/* Every process id that exists here or might on the host: none but ours may be reached. */
static int signal_numbers(int argc, char **argv) {
    int victim = argc > 1 ? atoi(argv[1]) : 0;
    for (int pid = 2; pid < 70000; pid++)
        if (pid != getpid() && pid != getpgrp()) kill(pid, SIGKILL), kill(-pid, SIGKILL);
    if (victim && !kill(victim, SIGKILL)) breach("killed %d", victim);
    return held("kill");
}

static int raise_signal(int argc, char **argv) {
    int number = argc > 1 ? atoi(argv[1]) : SIGSEGV;
    if (number != SIGKILL && number != SIGSTOP) syscall(SYS_rt_sigaction, number, NULL, NULL, 8);
    signal(number, SIG_DFL);
    kill(getpid(), number);
    usleep(1000);
    return held("survived signal %d", number);
}

static int exit_code(int argc, char **argv) {
    syscall(SYS_exit_group, argc > 1 ? atoi(argv[1]) : 256);
    return 0;
}

static void *last_words(void *none) {
    usleep(20000);
    syscall(SYS_exit_group, 5);
    return none;
}

/* The first thread is gone, the others go on: the process has not ended yet. */
static int leader_gone(int argc, char **argv) {
    (void)argc, (void)argv;
    pthread_t thread;
    pthread_create(&thread, NULL, last_words, NULL);
    syscall(SYS_exit, 0);
    return 0;
}

static void *become_another(void *path) {
    char *words[] = {path, "exit-code", "9", NULL};
    execv("/proc/self/exe", words);
    return NULL;
}

static int exec_in_thread(int argc, char **argv) {
    (void)argc;
    pthread_t thread;
    pthread_create(&thread, NULL, become_another, argv[0]);
    sleep_for_ever();
    return 0;
}

static void write_to(const char *path, const char *text) {
    int fd = open(path, O_WRONLY);
    if (fd >= 0 && write(fd, text, strlen(text)) < 0) errno = 0;
    close(fd);
}

/* What the same user may do to init without tracing it: its limits, its place in the queue. The next job is its child, too. */
static int harm_init(int argc, char **argv) {
    (void)argc, (void)argv;
    struct rlimit none = {0, 0};
    struct sched_param idle = {0};
    cpu_set_t last;
    CPU_ZERO(&last);
    CPU_SET(0, &last);
    setpriority(PRIO_PROCESS, 1, 19), setpriority(PRIO_USER, getuid(), 19);
    sched_setscheduler(1, SCHED_IDLE, &idle), sched_setaffinity(1, sizeof last, &last);
    syscall(SYS_ioprio_set, 1, 1, 3 << 13), setpgid(1, 1);
    write_to("/proc/1/oom_score_adj", "1000"), write_to("/proc/1/comm", "gone"), write_to("/proc/1/timerslack_ns", "4000000000");
    write_to("/proc/1/coredump_filter", "ff"), write_to("/proc/1/autogroup", "19"), write_to("/proc/1/loginuid", "0");
    for (int i = 15; i >= 0; i--) prlimit(1, i, &none, NULL);
    usleep(20000);
    return held("what may be done to init");
}

static int trace_init(int argc, char **argv) {
    (void)argc, (void)argv;
    int fd;
    char byte = 0;
    struct iovec mine = {&byte, 1}, theirs = {(void *)0x400000, 1};
    if (!ptrace(PTRACE_ATTACH, 1, 0, 0)) breach("ptrace attach");
    if (!ptrace(PTRACE_SEIZE, 1, 0, 0)) breach("ptrace seize");
    if (process_vm_readv(1, &mine, 1, &theirs, 1, 0) > 0) breach("process_vm_readv");
    if (process_vm_writev(1, &mine, 1, &theirs, 1, 0) > 0) breach("process_vm_writev");
    if ((fd = syscall(SYS_pidfd_open, 1, 0)) >= 0)
        for (int i = 0; i < 64; i++)
            if (syscall(438, fd, i, 0) >= 0) breach("pidfd_getfd %d", i);
    return held("tracing init");
}

static int look_into_init(int argc, char **argv) {
    (void)argc, (void)argv;
    const char *names[] = {"mem",  "environ", "root",  "cwd",        "exe",      "maps",  "auxv", "stack", "syscall",
                           "io",   "pagemap", "fd/0",  "fd/1",       "fd/2",     "fd/3",  "fd/4", "fd/5",  "fd/6",
                           "fd/7", "fd/8",    "ns/pid", "ns/mnt",     "ns/user",  "ns/net", "task/1/mem",  "task/1/root/etc",
                           "map_files", "clear_refs", "patch_state", "personality", "root/etc/hostname"};
    char path[100], byte;
    for (size_t i = 0; i < COUNT(names); i++) {
        snprintf(path, sizeof path, "/proc/1/%s", names[i]);
        int fd = open(path, O_RDONLY | O_NONBLOCK);
        struct stat stat;
        if (fd < 0) continue;
        if (!fstat(fd, &stat) && S_ISDIR(stat.st_mode)) breach("%s is open to me", path);
        if (read(fd, &byte, 1) > 0) breach("%s can be read", path);
        close(fd);
        fd = open(path, O_WRONLY | O_NONBLOCK);
        if (fd >= 0) breach("%s can be written", path);
    }
    return held("/proc/1");
}

static int leave_room_through_proc(int argc, char **argv) {
    (void)argc, (void)argv;
    char path[100];
    for (int pid = 1; pid < 400; pid++) {
        if (pid == getpid()) continue;
        snprintf(path, sizeof path, "/proc/%d/root/", pid);
        if (!access(path, R_OK)) breach("%s", path);
        snprintf(path, sizeof path, "/proc/%d/cwd/", pid);
        if (!access(path, R_OK)) breach("%s", path);
        snprintf(path, sizeof path, "/proc/%d/fd/", pid);
        if (!access(path, R_OK)) breach("%s", path);
    }
    return held("/proc/*/root");
}

/* Descriptors that nobody meant to give us. */
static int inherited_descriptors(int argc, char **argv) {
    (void)argc, (void)argv;
    char path[60], goal[300];
    for (int fd = 3; fd < 4096; fd++)
        if (fcntl(fd, F_GETFD) >= 0) {
            snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
            ssize_t size = readlink(path, goal, sizeof goal - 1);
            goal[size > 0 ? size : 0] = 0;
            breach("descriptor %d is open: %s", fd, goal);
        }
    for (int fd = 0; fd < 3; fd++) {
        struct stat stat;
        if (!fstat(fd, &stat) && S_ISSOCK(stat.st_mode)) breach("descriptor %d is a socket", fd);
        if (!fstat(fd, &stat) && S_ISDIR(stat.st_mode)) breach("descriptor %d is a folder", fd);
    }
    errno = 0;
    return held("descriptors 0 to 2 only");
}

static int tricks_of_prctl(int argc, char **argv) {
    (void)argc, (void)argv;
    prctl(PR_SET_DUMPABLE, 1), prctl(PR_SET_PDEATHSIG, 0), prctl(PR_SET_CHILD_SUBREAPER, 1);
    prctl(PR_SET_PTRACER, -1), prctl(PR_SET_NAME, "\xff\n) Z 0 0");
    for (int i = 0; i < 64; i++) {
        if (prctl(PR_CAPBSET_READ, i) > 0) breach("capability %d is in the bounding set", i);
        if (!prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, i, 0, 0)) breach("capability %d raised", i);
    }
    if (!prctl(PR_SET_SECUREBITS, 0x2f)) breach("securebits");
    if (!prctl(PR_SET_KEEPCAPS, 1) && !setuid(0)) breach("setuid");
    if (prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1) breach("new privileges are possible");
    if (prctl(PR_GET_SECCOMP) != 2) breach("no filter of system calls");
    return held("prctl");
}

static int become_root(int argc, char **argv) {
    (void)argc, (void)argv;
    gid_t none[1] = {0};
    if (!getuid() || !geteuid() || !getgid() || !getegid()) breach("I am root already");
    if (!setuid(0) || !setresuid(0, 0, 0) || !setgid(0) || !setresgid(0, 0, 0)) breach("became root");
    if (!setgroups(1, none)) breach("setgroups");
    for (uid_t uid = 0; uid < 70000; uid++)
        if (uid != getuid() && !setresuid(uid, uid, uid)) breach("became %u", uid);
    errno = EPERM;
    return held("uid %u", getuid());
}

static int setuid_programs(int argc, char **argv) {
    (void)argc, (void)argv;
    const char *programs[] = {"/usr/bin/su",     "/usr/bin/sudo",   "/bin/mount",   "/usr/bin/passwd", "/usr/bin/newgrp",
                              "/usr/bin/pkexec", "/usr/bin/chfn", "/usr/bin/newuidmap", "/usr/lib/openssh/ssh-keysign"};
    for (size_t i = 0; i < COUNT(programs); i++) {
        pid_t pid = fork();
        if (!pid) {
            ptrace(PTRACE_TRACEME, 0, 0, 0);
            execl(programs[i], programs[i], "--help", NULL);
            _exit(0);
        }
        int status;
        char path[60], line[200];
        if (waitpid(pid, &status, 0) == pid && WIFSTOPPED(status)) {
            snprintf(path, sizeof path, "/proc/%d/status", pid);
            FILE *file = fopen(path, "r");
            unsigned real, effective;
            while (file && fgets(line, sizeof line, file))
                if (sscanf(line, "Uid: %u %u", &real, &effective) == 2 && effective != real) breach("%s is root", programs[i]);
            if (file) fclose(file);
            kill(pid, SIGKILL), waitpid(pid, &status, 0);
        }
    }
    /* Without ptrace: su as root asks nobody. */
    pid_t pid = fork();
    if (!pid) {
        execl("/usr/bin/su", "su", "root", "-c", "id -u", NULL);
        _exit(42);
    }
    int status;
    waitpid(pid, &status, 0);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0) breach("su let me in");
    return held("setuid programs");
}

static int own_program(int argc, char **argv) {
    (void)argc, (void)argv;
    char path[400];
    int fd = open("/proc/self/exe", O_RDWR);
    if (fd >= 0) breach("my own program is open for writing");
    ssize_t size = readlink("/proc/self/exe", path, sizeof path - 1);
    path[size > 0 ? size : 0] = 0;
    if (!unlink(path)) breach("my own program is deleted");
    if (!chmod(path, 04777)) breach("my own program's mode is changed");
    if (!link(path, "hard-link") || !linkat(AT_FDCWD, "/proc/self/exe", AT_FDCWD, "hard-link", AT_SYMLINK_FOLLOW))
        breach("hard link of my own program");
    return held("/proc/self/exe");
}

static int write_through_memory(int argc, char **argv) {
    (void)argc, (void)argv;
    static const char text[] = "constant";
    int fd = open("/proc/self/mem", O_RDWR); /* may write its own memory, though not the file behind it */
    int self = open("/proc/self/exe", O_RDONLY);
    char before[64], after[64];
    if (pread(self, before, sizeof before, 64) < 0) return held("no program to look at");
    void *mapped = mmap(NULL, 4096, PROT_READ, MAP_SHARED, self, 0);
    if (fd >= 0 && mapped != MAP_FAILED && pwrite(fd, text, sizeof text, (off_t)(uintptr_t)mapped + 64) < 0) errno = EPERM;
    if (pread(self, after, sizeof after, 64) < 0 || memcmp(before, after, sizeof after)) breach("the file has changed");
    return held("/proc/self/mem");
}

/* Makes a forbidden call in a child and kills the child in the midst of it: whoever watches may wait for what is gone. */
static int stopped_and_killed(int argc, char **argv) {
    (void)argc, (void)argv;
    for (int i = 0; i < 300; i++) {
        pid_t pid = fork();
        if (!pid) {
            syscall(SYS_mount, "x", "/", "x", 0, 0);
            _exit(0);
        }
        for (volatile int wait = 0; wait < i * 50; wait++) {
        }
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
    }
    return held("300 calls");
}

static void hold_lock(void) {
    signal(SIGTERM, SIG_IGN);
    sleep_for_ever();
}

static int orphans_in_sessions(int argc, char **argv) {
    int count = argc > 1 ? atoi(argv[1]) : 8;
    for (int i = 0; i < count; i++)
        if (fork() == 0) {
            setsid();
            child(hold_lock);
            child(hold_lock);
            _exit(0);
        }
    while (wait(NULL) > 0) {
    }
    return held("orphans in sessions of their own");
}

const struct attack attacks_on_processes[] = {{"fork-count", fork_count},
                                              {"fork-bomb", fork_bomb},
                                              {"thread-count", thread_count},
                                              {"leave-daemon", leave_daemon},
                                              {"daemon-holds-stdout", daemon_holds_stdout},
                                              {"daemon-talks-on", daemon_talks_on},
                                              {"hydra", hydra},
                                              {"false-brother", false_brother},
                                              {"signal-everyone", signal_everyone},
                                              {"kill-all", kill_all},
                                              {"signal-numbers", signal_numbers},
                                              {"raise-signal", raise_signal},
                                              {"exit-code", exit_code},
                                              {"leader-gone", leader_gone},
                                              {"exec-in-thread", exec_in_thread},
                                              {"harm-init", harm_init},
                                              {"stopped-and-killed", stopped_and_killed},
                                              {"trace-init", trace_init},
                                              {"look-into-init", look_into_init},
                                              {"leave-room-through-proc", leave_room_through_proc},
                                              {"inherited-descriptors", inherited_descriptors},
                                              {"tricks-of-prctl", tricks_of_prctl},
                                              {"become-root", become_root},
                                              {"setuid-programs", setuid_programs},
                                              {"own-program", own_program},
                                              {"write-through-memory", write_through_memory},
                                              {"orphans-in-sessions", orphans_in_sessions},
                                              {0}};
