/* Processor time and wall time: used up, hidden, and changed. */
#include "attack.h"
#include <sys/timex.h>
#include <sys/time.h>
#include <linux/sched.h>

static int hog(int argc, char **argv) {
    burn(argc > 1 ? atof(argv[1]) : 1e9);
    return held("burnt");
}

static int hog_in_kernel(int argc, char **argv) {
    (void)argc, (void)argv;
    int zero = open("/dev/zero", O_RDONLY);
    static char buffer[65536];
    while (zero < 0 || read(zero, buffer, sizeof buffer) >= 0) syscall(SYS_getppid);
    return 0;
}

static int sleeper(int argc, char **argv) {
    (void)argc, (void)argv;
    struct timespec hour = {3600, 0};
    while (nanosleep(&hour, NULL) <= 0) {
    }
    return 0;
}

static int deaf_hog(int argc, char **argv) {
    (void)argc, (void)argv;
    sigset_t all;
    sigfillset(&all);
    for (int i = 1; i < 65; i++) signal(i, SIG_IGN);
    sigprocmask(SIG_BLOCK, &all, NULL);
    struct rlimit most = {RLIM_INFINITY, RLIM_INFINITY};
    setrlimit(RLIMIT_CPU, &most);
    burn_for_ever();
    return 0;
}

static void *burn_thread(void *none) {
    burn_for_ever();
    return none;
}

static int hog_in_threads(int argc, char **argv) {
    (void)argc, (void)argv;
    pthread_t thread;
    for (int i = 0; i < 3; i++) pthread_create(&thread, NULL, burn_thread, NULL);
    burn_for_ever();
    return 0;
}

static int hog_in_four_children(int argc, char **argv) {
    (void)argc, (void)argv;
    for (int i = 0; i < 4; i++) child(burn_for_ever);
    while (wait(NULL) > 0) {
    }
    return held("no children left");
}

static double seconds_of_orphan;
static int orphan_tells[2];

static void orphan(void) {
    if (fork()) _exit(0);
    setsid();
    burn(seconds_of_orphan);
    if (write(orphan_tells[1], "x", 1) < 0) _exit(1);
    _exit(0);
}

/* Burns N seconds in a process whose parent is gone, then ends as if nothing had been. */
static int hog_in_orphan(int argc, char **argv) {
    seconds_of_orphan = argc > 1 ? atof(argv[1]) : 1e9;
    char byte;
    if (pipe(orphan_tells)) return 1;
    waitpid(child(orphan), NULL, 0);
    close(orphan_tells[1]);
    return read(orphan_tells[0], &byte, 1) == 1 ? held("burnt in an orphan") : 1;
}

static double seconds_of_child;
static void burn_a_while(void) {
    burn(seconds_of_child);
}

/* Children that nobody waits for: their time is in no parent's rusage. */
static int hog_in_ignored_children(int argc, char **argv) {
    seconds_of_child = argc > 1 ? atof(argv[1]) : 1e9;
    signal(SIGCHLD, SIG_IGN);
    child(burn_a_while);
    child(burn_a_while);
    while (wait(NULL) > 0 || errno == EINTR) {
    }
    return held("burnt in ignored children");
}

/* Many short lives: a supervisor that samples sees none of them. */
static int hog_in_short_lives(int argc, char **argv) {
    double end = argc > 1 ? atof(argv[1]) : 1e9;
    seconds_of_child = 0.004;
    for (double spent = 0; spent < end; spent += seconds_of_child) waitpid(child(burn_a_while), NULL, 0);
    return held("burnt in short lives");
}

static int hog_in_vfork(int argc, char **argv) {
    (void)argc, (void)argv;
    if (vfork() == 0) burn_for_ever();
    return held("came back");
}

/* The job is done, its daemon burns on: neither may it live, nor be waited for. */
static int hog_in_daemon(int argc, char **argv) {
    (void)argc, (void)argv;
    if (fork() == 0) {
        setsid();
        if (fork()) _exit(0);
        burn_for_ever();
    }
    usleep(50000);
    return held("gone, with a daemon behind");
}

static int stop_self(int argc, char **argv) {
    (void)argc, (void)argv;
    kill(getpid(), SIGSTOP);
    return held("somebody woke me");
}

static int stop_all(int argc, char **argv) {
    (void)argc, (void)argv;
    child(sleep_for_ever);
    kill(0, SIGSTOP);
    kill(-1, SIGSTOP);
    kill(getpid(), SIGSTOP);
    return held("somebody woke me");
}

/* The limit of processor time lowered by the job itself is its own affair: a signal, not our verdict. */
static int fake_timeout(int argc, char **argv) {
    (void)argc, (void)argv;
    raise(SIGXCPU);
    return held("survived SIGXCPU");
}

static int raise_limits(int argc, char **argv) {
    (void)argc, (void)argv;
    int which[] = {RLIMIT_CPU, RLIMIT_NPROC, RLIMIT_AS,      RLIMIT_FSIZE, RLIMIT_NOFILE, RLIMIT_CORE,
                   RLIMIT_STACK, RLIMIT_DATA, RLIMIT_MEMLOCK, RLIMIT_NICE,  RLIMIT_RTPRIO, RLIMIT_MSGQUEUE};
    for (size_t i = 0; i < COUNT(which); i++) {
        struct rlimit limit, again;
        getrlimit(which[i], &limit);
        if (limit.rlim_max == RLIM_INFINITY) continue;
        struct rlimit more = {limit.rlim_max + 1, limit.rlim_max + 1};
        setrlimit(which[i], &more);
        prlimit(getpid(), which[i], &more, NULL);
        prlimit(1, which[i], &more, NULL);
        getrlimit(which[i], &again);
        if (again.rlim_max > limit.rlim_max) breach("limit %d raised", which[i]);
    }
    return held("no limit raised");
}

static int set_clock(int argc, char **argv) {
    (void)argc, (void)argv;
    struct timespec time;
    struct timeval then;
    struct timex adjust = {.modes = ADJ_TICK, .tick = 10001};
    clock_gettime(CLOCK_REALTIME, &time); /* what it is already: were it let in, nobody would be hurt */
    then.tv_sec = time.tv_sec, then.tv_usec = time.tv_nsec / 1000;
    if (!clock_settime(CLOCK_REALTIME, &time)) breach("clock_settime");
    if (!settimeofday(&then, NULL)) breach("settimeofday");
    if (adjtimex(&adjust) >= 0) {
        adjust.tick = 10000;
        adjtimex(&adjust);
        breach("adjtimex");
    }
    return held("the clock");
}

static int more_priority(int argc, char **argv) {
    (void)argc, (void)argv;
    struct sched_param param = {1};
    struct {
        uint32_t size, policy;
        uint64_t flags;
        int32_t nice;
        uint32_t priority;
        uint64_t runtime, deadline, period;
    } deadline = {48, SCHED_DEADLINE, 0, 0, 0, 900000000, 1000000000, 1000000000};
    if (!setpriority(PRIO_PROCESS, 0, -20)) breach("nice -20");
    if (!setpriority(PRIO_PGRP, 0, -1)) breach("nice of the group");
    if (!sched_setscheduler(0, SCHED_FIFO, &param)) breach("SCHED_FIFO");
    if (!sched_setscheduler(0, SCHED_RR, &param)) breach("SCHED_RR");
    if (!syscall(SYS_sched_setattr, 0, &deadline, 0)) breach("SCHED_DEADLINE");
    if (!syscall(SYS_ioprio_set, 1, 0, (1 << 13) | 0)) breach("real-time I/O priority");
    return held("priorities");
}

static void nothing(int number) {
    (void)number;
}

static int timers(int argc, char **argv) {
    (void)argc, (void)argv;
    signal(SIGALRM, nothing);
    struct itimerspec often = {{0, 10000000}, {0, 1}};
    long made = 0;
    timer_t timer;
    struct sigevent quietly = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGALRM};
    while (made < 300000 && !timer_create(CLOCK_MONOTONIC, &quietly, &timer)) {
        if (made < 100) timer_settime(timer, 0, &often, NULL);
        made++;
    }
    if (made >= 300000) breach("%ld timers", made);
    return held("%ld timers", made);
}

const struct attack attacks_on_time[] = {{"hog", hog},
                                         {"hog-in-kernel", hog_in_kernel},
                                         {"sleeper", sleeper},
                                         {"deaf-hog", deaf_hog},
                                         {"hog-in-threads", hog_in_threads},
                                         {"hog-in-four-children", hog_in_four_children},
                                         {"hog-in-orphan", hog_in_orphan},
                                         {"hog-in-ignored-children", hog_in_ignored_children},
                                         {"hog-in-short-lives", hog_in_short_lives},
                                         {"hog-in-vfork", hog_in_vfork},
                                         {"hog-in-daemon", hog_in_daemon},
                                         {"stop-self", stop_self},
                                         {"stop-all", stop_all},
                                         {"fake-timeout", fake_timeout},
                                         {"raise-limits", raise_limits},
                                         {"set-clock", set_clock},
                                         {"more-priority", more_priority},
                                         {"timers", timers},
                                         {0}};
