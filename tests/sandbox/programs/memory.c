/* Memory: in every place where it can be had. MOST is what an attack takes before it calls that a breach; the rows of the
 * table allow 64 MiB. */
#include "attack.h"
#include <sys/ipc.h>
#include <sys/shm.h>
#include <sys/xattr.h>
#include <sys/epoll.h>
#include <dirent.h>
#include <mqueue.h>

#define MOST (400 * MIB)

static int touched(void *start, long size) {
    if (start == MAP_FAILED || !start) return -1;
    for (long at = 0; at < size; at += 4096) ((volatile char *)start)[at] = 1;
    return 0;
}

static int one_block(int argc, char **argv) {
    long size = argc > 1 ? atol(argv[1]) * MIB : MOST;
    if (touched(malloc(size), size)) return held("malloc");
    if (argc > 1) return held("took %ld MiB", size / MIB);
    return breach("%ld MiB in one block", size / MIB);
}

/* Much memory first, then as much of other people's files in the cache: which of both was the peak? */
static int hidden_by_reading(int argc, char **argv) {
    (void)argc, (void)argv;
    static char block[65536];
    long size = 40 * MIB, left = 40 * MIB;
    void *start = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (touched(start, size)) return held("mmap");
    munmap(start, size);
    for (int fd = open("/usr/bin", O_RDONLY | O_DIRECTORY); left > 0;) {
        DIR *folder = fdopendir(fd);
        struct dirent *entry;
        while (folder && left > 0 && (entry = readdir(folder))) {
            int file = openat(dirfd(folder), entry->d_name, O_RDONLY);
            posix_fadvise(file, 0, 0, POSIX_FADV_DONTNEED);
            for (ssize_t got; file >= 0 && (got = read(file, block, sizeof block)) > 0;) left -= got;
            close(file);
        }
        break;
    }
    return held("40 MiB of memory, then files");
}

static int populated(int argc, char **argv) {
    (void)argc, (void)argv;
    void *start = mmap(NULL, MOST, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    if (touched(start, MOST)) return held("mmap");
    return breach("MAP_POPULATE");
}

static int locked(int argc, char **argv) {
    (void)argc, (void)argv;
    mlockall(MCL_CURRENT | MCL_FUTURE);
    return one_block(1, argv);
}

static void take_fifty(void) {
    if (touched(malloc(50 * MIB), 50 * MIB)) _exit(1);
    sleep_for_ever();
}

static int in_many_processes(int argc, char **argv) {
    (void)argc, (void)argv;
    for (int i = 0; i < 8; i++)
        if (child(take_fifty) < 0) return held("fork");
    int status;
    wait(&status); /* none ends by itself */
    if (WIFSIGNALED(status)) return held("a child ended by signal %d", WTERMSIG(status));
    return held("a child ended with %d", status);
}

/* The kernel ends a child; the parent ends well and says nothing. */
static int hidden_in_child(int argc, char **argv) {
    if (fork() == 0) {
        int fd = open("/proc/self/oom_score_adj", O_WRONLY);
        if (fd >= 0 && write(fd, "1000", 4) < 0) errno = 0;
        one_block(1, argv);
        _exit(0);
    }
    int status;
    wait(&status);
    return held("nothing happened here%s", argc > 5 ? "?" : "");
}

static int sysv_shm(int argc, char **argv) {
    (void)argc, (void)argv;
    int id = shmget(IPC_PRIVATE, MOST, IPC_CREAT | 0600);
    if (id < 0) return held("shmget");
    if (touched(shmat(id, NULL, 0), MOST)) return held("shmat");
    return breach("SysV shared memory");
}

/* Segments that no process is attached to. */
static int sysv_shm_detached(int argc, char **argv) {
    (void)argc, (void)argv;
    for (long taken = 0; taken < MOST; taken += 8 * MIB) {
        int id = shmget(IPC_PRIVATE, 8 * MIB, IPC_CREAT | 0600);
        if (id < 0) return held("shmget after %ld MiB", taken / MIB);
        void *start = shmat(id, NULL, 0);
        if (touched(start, 8 * MIB)) return held("shmat");
        shmdt(start);
    }
    return breach("detached SysV segments");
}

static int in_file(int fd, const char *where) {
    static char block[MIB];
    memset(block, 'x', sizeof block);
    if (fd < 0) return held("%s: open", where);
    for (long taken = 0; taken < MOST;) {
        ssize_t size = write(fd, block, sizeof block);
        if (size <= 0) return held("%s: after %ld MiB", where, taken / MIB);
        taken += size;
    }
    return breach("%ld MiB in %s", MOST / MIB, where);
}

static int memfd(int argc, char **argv) {
    (void)argc, (void)argv;
    signal(SIGXFSZ, SIG_IGN);
    return in_file(syscall(SYS_memfd_create, "x", 0), "a memfd");
}

static int many_memfds(int argc, char **argv) {
    (void)argc, (void)argv;
    static char block[MIB];
    memset(block, 'x', sizeof block);
    for (long taken = 0; taken < MOST; taken += 4 * MIB) {
        int fd = syscall(SYS_memfd_create, "x", 0);
        if (fd < 0) return held("memfd_create after %ld MiB", taken / MIB);
        for (int i = 0; i < 4; i++)
            if (write(fd, block, MIB) != MIB) return held("write after %ld MiB", taken / MIB);
        void *kept = mmap(NULL, 4 * MIB, PROT_READ, MAP_SHARED, fd, 0);
        if (kept == MAP_FAILED) return held("mmap");
        close(fd);
    }
    return breach("memfds without descriptors");
}

static int tmpfs(int argc, char **argv) {
    signal(SIGXFSZ, SIG_IGN);
    char path[300];
    const char *folder = argc > 1 ? argv[1] : ".";
    snprintf(path, sizeof path, "%s/fill", folder);
    return in_file(open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600), folder);
}

/* A file that is deleted while it is open, and mapped by no one. */
static int deleted_file(int argc, char **argv) {
    (void)argc, (void)argv;
    signal(SIGXFSZ, SIG_IGN);
    return in_file(open(".", O_TMPFILE | O_RDWR, 0600), "a file without a name");
}

static int recursion(int depth) {
    volatile char room[4096];
    room[0] = (char)depth;
    return recursion(depth + 1) + room[0];
}

static int stack(int argc, char **argv) {
    (void)argc, (void)argv;
    return recursion(0);
}

static int many_mappings(int argc, char **argv) {
    (void)argc, (void)argv;
    long taken = 0;
    for (int i = 0; taken < MOST; i++) {
        int protection = i % 2 ? PROT_READ | PROT_WRITE : PROT_READ | PROT_WRITE | PROT_EXEC;
        void *start = mmap(NULL, 65536, protection, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (touched(start, 65536)) return held("mmap after %ld MiB", taken / MIB);
        taken += 65536;
    }
    return breach("%ld MiB in many mappings", taken / MIB);
}

/* One byte read in each 2 MiB costs a page of page tables each, and hardly any memory that is "resident". */
static int page_tables(int argc, char **argv) {
    (void)argc, (void)argv;
    long step = 2 * MIB, tables = 0;
    for (int block = 0; block < 200; block++) {
        char *start = mmap(NULL, 512 * step, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (start == MAP_FAILED) return held("mmap after %ld MiB of tables", tables / 256);
        madvise(start, 512 * step, MADV_NOHUGEPAGE);
        for (long at = 0; at < 512 * step; at += step, tables++) (void)((volatile char *)start)[at];
    }
    return breach("%ld MiB of page tables", tables / 256);
}

static int huge_reservation(int argc, char **argv) {
    (void)argc, (void)argv;
    long size = 1L << 40;
    void *start = mmap(NULL, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return held("a reservation of 1 TiB %s", start == MAP_FAILED ? "refused" : "given, and not touched");
}

static int pipes(int argc, char **argv) {
    (void)argc, (void)argv;
    static char block[65536];
    long taken = 0;
    int ends[2];
    while (!pipe2(ends, O_NONBLOCK)) {
        fcntl(ends[1], F_SETPIPE_SZ, 1 << 20);
        for (ssize_t size; (size = write(ends[1], block, sizeof block)) > 0;) taken += size;
        if (taken > 128 * MIB) breach("%ld MiB in pipes", taken / MIB);
    }
    return held("%ld MiB in pipes", taken / MIB);
}

static int socket_buffers(int argc, char **argv) {
    (void)argc, (void)argv;
    static char block[65536];
    long taken = 0;
    int ends[2], much = 64 * MIB;
    while (!socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0, ends)) {
        for (int i = 0; i < 2; i++) {
            setsockopt(ends[i], SOL_SOCKET, SO_SNDBUF, &much, sizeof much);
            setsockopt(ends[i], SOL_SOCKET, SO_RCVBUF, &much, sizeof much);
            for (ssize_t size; (size = write(ends[i], block, sizeof block)) > 0;) taken += size;
        }
        if (taken > 128 * MIB) breach("%ld MiB in sockets", taken / MIB);
    }
    return held("%ld MiB in sockets", taken / MIB);
}

static int extended_attributes(int argc, char **argv) {
    static char value[60000];
    char name[300];
    long taken = 0;
    const char *folder = argc > 1 ? argv[1] : ".";
    snprintf(name, sizeof name, "%s/attributes", folder);
    int fd = open(name, O_RDWR | O_CREAT, 0600);
    if (fd < 0) return held("open");
    for (int i = 0; i < 4000; i++) {
        snprintf(name, sizeof name, "user.n%d", i);
        if (fsetxattr(fd, name, value, sizeof value, 0)) return held("fsetxattr after %ld MiB", taken / MIB);
        taken += sizeof value;
        if (taken > 128 * MIB) breach("%ld MiB in extended attributes", taken / MIB);
    }
    return breach("%ld MiB in extended attributes", taken / MIB);
}

static int message_queues(int argc, char **argv) {
    (void)argc, (void)argv;
    long taken = 0;
    char name[40];
    struct mq_attr shape = {.mq_maxmsg = 10, .mq_msgsize = 8192};
    static char block[8192];
    for (int i = 0; i < 20000; i++) {
        snprintf(name, sizeof name, "/leftover%d", i);
        mqd_t queue = mq_open(name, O_CREAT | O_RDWR | O_NONBLOCK, 0600, &shape);
        if (queue < 0) return held("mq_open after %ld KiB", taken / 1024);
        while (!mq_send(queue, block, sizeof block, 0)) taken += sizeof block;
        mq_close(queue);
        if (taken > 128 * MIB) breach("%ld MiB in message queues", taken / MIB);
    }
    return held("%ld KiB in message queues", taken / 1024);
}

/* Descriptors that are on their way in a socket, held by nobody. */
static int flying_descriptors(int argc, char **argv) {
    (void)argc, (void)argv;
    long flying = 0;
    int ends[2];
    while (flying < 200000 && !socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0, ends)) {
        for (;;) {
            int sent[2] = {ends[0], ends[1]};
            char room[CMSG_SPACE(sizeof sent)] = {0}, byte = 0;
            struct iovec data = {&byte, 1};
            struct msghdr message = {.msg_iov = &data, .msg_iovlen = 1, .msg_control = room, .msg_controllen = sizeof room};
            struct cmsghdr *head = CMSG_FIRSTHDR(&message);
            head->cmsg_level = SOL_SOCKET, head->cmsg_type = SCM_RIGHTS, head->cmsg_len = CMSG_LEN(sizeof sent);
            memcpy(CMSG_DATA(head), sent, sizeof sent);
            if (sendmsg(ends[0], &message, 0) < 0) break;
            flying += 2;
        }
        close(ends[0]), close(ends[1]);
        if (errno == ETOOMANYREFS) break;
    }
    if (argc > 1) usleep(atof(argv[1]) * 1e6);
    return flying >= 200000 ? breach("%ld descriptors in flight", flying) : held("%ld descriptors in flight", flying);
}

/* A file's pages stay with what has sent them, though it was closed and deleted. */
static int files_in_flight(int argc, char **argv) {
    (void)argc, (void)argv;
    static char block[4 * MIB];
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0, ends)) return held("socketpair");
    for (long taken = 0; taken < MOST; taken += sizeof block) {
        int fd = syscall(SYS_memfd_create, "x", 0);
        char room[CMSG_SPACE(sizeof fd)] = {0}, byte = 0;
        if (fd < 0 || write(fd, block, sizeof block) != sizeof block) return held("memfd after %ld MiB", taken / MIB);
        struct iovec data = {&byte, 1};
        struct msghdr message = {.msg_iov = &data, .msg_iovlen = 1, .msg_control = room, .msg_controllen = sizeof room};
        struct cmsghdr *head = CMSG_FIRSTHDR(&message);
        head->cmsg_level = SOL_SOCKET, head->cmsg_type = SCM_RIGHTS, head->cmsg_len = CMSG_LEN(sizeof fd);
        memcpy(CMSG_DATA(head), &fd, sizeof fd);
        if (sendmsg(ends[0], &message, 0) < 0) {
            int more[2];
            if (errno != EAGAIN || socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0, more)) return held("sendmsg");
            ends[0] = more[0], ends[1] = more[1];
        }
        close(fd);
    }
    return breach("%ld MiB in flight", MOST / MIB);
}

static int epolls(int argc, char **argv) {
    (void)argc, (void)argv;
    int made = 0, pipes[2];
    if (pipe(pipes)) return held("pipe");
    for (int epoll; made < 100000 && (epoll = epoll_create1(0)) >= 0; made++) {
        struct epoll_event event = {.events = EPOLLIN};
        epoll_ctl(epoll, EPOLL_CTL_ADD, pipes[0], &event);
    }
    return made >= 100000 ? breach("%d epolls", made) : held("%d epolls", made);
}

const struct attack attacks_on_memory[] = {{"memory", one_block},
                                           {"memory-hidden-by-reading", hidden_by_reading},
                                           {"memory-populated", populated},
                                           {"memory-locked", locked},
                                           {"memory-in-many-processes", in_many_processes},
                                           {"memory-hidden-in-child", hidden_in_child},
                                           {"memory-in-sysv", sysv_shm},
                                           {"memory-in-sysv-detached", sysv_shm_detached},
                                           {"memory-in-memfd", memfd},
                                           {"memory-in-many-memfds", many_memfds},
                                           {"memory-in-tmpfs", tmpfs},
                                           {"memory-in-deleted-file", deleted_file},
                                           {"stack", stack},
                                           {"memory-in-many-mappings", many_mappings},
                                           {"memory-in-page-tables", page_tables},
                                           {"huge-reservation", huge_reservation},
                                           {"memory-in-pipes", pipes},
                                           {"memory-in-sockets", socket_buffers},
                                           {"memory-in-attributes", extended_attributes},
                                           {"memory-in-message-queues", message_queues},
                                           {"flying-descriptors", flying_descriptors},
                                           {"memory-in-flight", files_in_flight},
                                           {"epolls", epolls},
                                           {0}};
