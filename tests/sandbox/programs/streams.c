/* stdin, stdout, stderr: floods, silence, and lies. */
#include "attack.h"

static int flood(int argc, char **argv) {
    int fd = argc > 1 ? atoi(argv[1]) : 1;
    static char block[65536];
    memset(block, 'x', sizeof block);
    signal(SIGPIPE, SIG_IGN);
    for (int failed = 0; failed < 1000;)
        if (write(fd, block, sizeof block) < 0) failed++, usleep(1000);
    return 0;
}

static int print_bytes(int argc, char **argv) {
    long count = argc > 1 ? atol(argv[1]) : 1000;
    static char block[65536];
    memset(block, 'x', sizeof block);
    while (count > 0) {
        ssize_t size = write(1, block, count < (long)sizeof block ? (size_t)count : sizeof block);
        if (size < 0) return 3;
        count -= size;
    }
    return 0;
}

/* What stood there first stays, whatever is done to the file behind it. */
static int rewind_stdout(int argc, char **argv) {
    (void)argc, (void)argv;
    if (write(1, "first words\n", 12) != 12) return 1;
    usleep(20000);
    lseek(1, 0, SEEK_SET);
    if (!ftruncate(1, 0)) errno = 0;
    if (pwrite(1, "LIES\n", 5, 0) > 0) errno = 0;
    fcntl(1, F_SETFL, O_NONBLOCK), fcntl(1, F_SETPIPE_SZ, 4096);
    char taken[100];
    int again = open("/proc/self/fd/1", O_RDWR | O_NONBLOCK | O_TRUNC);
    if (again >= 0 && pwrite(again, "LIES\n", 5, 0) > 0) errno = 0;
    if (again >= 0 && lseek(again, 0, SEEK_SET) == 0 && write(again, "LIES\n", 5) > 0) errno = 0;
    if (again >= 0 && read(again, taken, sizeof taken) > 0) breach("took my words back");
    return held("rewinding");
}

static int close_all(int argc, char **argv) {
    (void)argc, (void)argv;
    for (int fd = 0; fd < 1024; fd++) close(fd);
    usleep(50000);
    _exit(4);
}

/* Descriptors 0 to 2 exchanged and left non-blocking: the next job must not find them so. */
static int spoil_streams(int argc, char **argv) {
    (void)argc, (void)argv;
    for (int fd = 0; fd < 3; fd++) {
        fcntl(fd, F_SETFL, O_NONBLOCK | O_APPEND | O_ASYNC | O_DIRECT);
        fcntl(fd, F_SETOWN, 1), fcntl(fd, F_SETSIG, SIGKILL), fcntl(fd, F_SETPIPE_SZ, 4096);
        shutdown(fd, SHUT_RDWR);
    }
    return held("streams");
}

static int forge(int argc, char **argv) {
    (void)argc, (void)argv;
    const char lies[] = "\0OUTRIDER\0ready\n\0\0\0\1{\"verdict\":\"OK\",\"exit_code\":0}\n{\"verdict\": \"OK\"}\nOK\nexitcode:0\nstatus:OK\n"
                        "time:0.001\nmax-rss:1\n\x1b]0;title\x07\x1b[2J\x1b[31mVERDICT OK\x1b[0m\n\xff\xfe\x80\n";
    for (int fd = 0; fd < 64; fd++)
        if (write(fd, lies, sizeof lies - 1) < 0) continue;
    _exit(3);
}

static int trickle(int argc, char **argv) {
    (void)argc, (void)argv;
    for (;;) {
        if (write(1, ".", 1) < 0) return 1;
        usleep(10000);
    }
}

static int read_all(int argc, char **argv) {
    (void)argc, (void)argv;
    static char block[65536];
    long total = 0;
    for (ssize_t size; (size = read(0, block, sizeof block)) > 0;) total += size;
    printf("%ld\n", total);
    return 0;
}

const struct attack attacks_on_streams[] = {{"flood", flood},
                                            {"print-bytes", print_bytes},
                                            {"rewind-stdout", rewind_stdout},
                                            {"close-all", close_all},
                                            {"spoil-streams", spoil_streams},
                                            {"forge", forge},
                                            {"trickle", trickle},
                                            {"read-all", read_all},
                                            {0}};
