/* Files: other people's, the host's, too many, too deep, and put where somebody will fetch them. */
#include "attack.h"
#include <dirent.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>
#include <linux/fs.h>

static void show(const char *path) {
    char text[4096];
    int fd = open(path, O_RDONLY | O_NONBLOCK);
    ssize_t size = fd < 0 ? -1 : read(fd, text, sizeof text);
    if (size > 0 && write(1, text, size) < 0) _exit(98);
    close(fd);
}

/* What it prints, the test looks through for the secret. */
static int read_file(int argc, char **argv) {
    char path[2000];
    for (int i = 1; i < argc; i++) {
        show(argv[i]);
        snprintf(path, sizeof path, "/proc/1/root%s", argv[i]), show(path);
        snprintf(path, sizeof path, "/proc/self/root/../../..%s", argv[i]), show(path);
        snprintf(path, sizeof path, "/../../../..%s", argv[i]), show(path);
    }
    return held("reading");
}

static int private_places(int argc, char **argv) {
    (void)argc, (void)argv;
    const char *files[] = {"/etc/shadow", "/etc/gshadow", "/etc/sudoers", "/root/.ssh/id_rsa", "/root/.bash_history",
                           "/etc/ssh/ssh_host_ed25519_key", "/etc/munge/munge.key", "/var/lib/dpkg/status", "/etc/machine-id",
                           "/var/log/dpkg.log", "/proc/kallsyms-x", "/run/docker.sock", "/var/run/docker.sock"};
    const char *folders[] = {"/root", "/home", "/run", "/var/lib", "/var/log", "/var/spool", "/mnt", "/srv", "/boot", "/sys/fs/cgroup",
                             "/sys/kernel/security", "/dev/shm/..", "/proc/1/cwd"};
    for (size_t i = 0; i < COUNT(files); i++)
        if (open(files[i], O_RDONLY) >= 0 || (strstr(files[i], ".sock") && !access(files[i], F_OK))) breach("%s is there", files[i]);
    for (size_t i = 0; i < COUNT(folders); i++) {
        DIR *folder = opendir(folders[i]);
        struct dirent *entry;
        struct stat stat;
        while (folder && (entry = readdir(folder)))
            if (entry->d_name[0] != '.' && strncmp(folders[i], "/dev", 4) && !fstatat(dirfd(folder), entry->d_name, &stat, 0))
                breach("%s holds %s", folders[i], entry->d_name);
    }
    return held("private places");
}

static int try_to_write(const char *folder, int depth, int *seen) {
    char path[1100];
    snprintf(path, sizeof path, "%s/planted-by-an-attack", folder);
    int fd = open(path, O_WRONLY | O_CREAT, 0666);
    if (fd >= 0) {
        struct statfs there;
        if (fstatfs(fd, &there) || there.f_type != 0x01021994) breach("%s is written, and is no tmpfs", path);
        unlink(path);
        close(fd);
    }
    if (depth == 0 || ++*seen > 3000) return 0;
    DIR *opened = opendir(*folder ? folder : "/");
    if (!opened) return 0;
    for (struct dirent *entry; (entry = readdir(opened));) {
        if (entry->d_type != DT_DIR || entry->d_name[0] == '.' || !strcmp(folder, "/proc")) continue;
        snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
        try_to_write(path, depth - 1, seen);
    }
    return closedir(opened);
}

/* A file in every folder of the view: only the jail's own tmpfs may take it. */
static int write_everywhere(int argc, char **argv) {
    (void)argc, (void)argv;
    int seen = 0;
    errno = 0;
    try_to_write("", 3, &seen);
    const char *files[] = {"/etc/passwd", "/usr/bin/python3", "/bin/sh", "/usr/lib/os-release", "/etc/ld.so.cache", "/etc/hosts"};
    for (size_t i = 0; i < COUNT(files); i++) {
        if (open(files[i], O_WRONLY) >= 0) breach("%s is open for writing", files[i]);
        if (!truncate(files[i], 1L << 40)) breach("%s is longer now", files[i]);
        if (!unlink(files[i])) breach("%s is deleted", files[i]);
        if (!chmod(files[i], 0777)) breach("%s has another mode", files[i]);
        if (!utimensat(AT_FDCWD, files[i], NULL, 0)) breach("%s has another time", files[i]);
        if (!rename(files[i], "taken") || !link(files[i], "taken")) breach("%s is moved or linked", files[i]);
    }
    if (seen < 5) return 1;
    return held("writing in %d folders", seen);
}

static int chroot_escape(int argc, char **argv) {
    (void)argc, (void)argv;
    int out = open("/", O_RDONLY | O_DIRECTORY);
    mkdir("inner", 0777);
    if (!chroot("inner") || !chroot(".")) {
        if (fchdir(out)) errno = 0;
        breach("chroot");
    }
    int path = open("/", O_PATH), up = path;
    for (int i = 0; i < 40; i++) up = openat(up, "..", O_PATH);
    struct stat top, mine;
    if (fstat(up, &top) || fstat(path, &mine)) return 1;
    if (top.st_ino != mine.st_ino || top.st_dev != mine.st_dev) breach("there is something above /");
    if (fchmodat(path, "", 0777, AT_EMPTY_PATH) == 0 && errno == 0) errno = EPERM;
    return held("chroot");
}

static int old_root(int argc, char **argv) {
    (void)argc, (void)argv;
    const char *names[] = {"/.old", "/oldroot", "/.oldroot", "/old", "/old_root", "/.pivot_root", "/mnt/old", "/newroot", "/put_old"};
    for (size_t i = 0; i < COUNT(names); i++)
        if (!access(names[i], F_OK)) breach("%s is there", names[i]);
    FILE *mounts = fopen("/proc/self/mountinfo", "r");
    char line[4000], root[1000], at[1000], options[300];
    while (mounts && fgets(line, sizeof line, mounts))
        if (sscanf(line, "%*d %*d %*s %999s %999s %299s", root, at, options) == 3 && strstr(line, " - tmpfs ") == NULL &&
            strstr(line, " - proc ") == NULL && strstr(line, " - mqueue ") == NULL && strstr(line, " - devpts ") == NULL &&
            strncmp(at, "/dev/", 5) && strncmp(options, "ro", 2))
            breach("%s is mounted for writing: %s", at, options);
    return held("mounts");
}

static int make_devices(int argc, char **argv) {
    (void)argc, (void)argv;
    if (!mknod("memory", S_IFCHR | 0666, makedev(1, 1))) breach("a device of memory");
    if (!mknod("disk", S_IFBLK | 0666, makedev(254, 0))) breach("a device of a disk");
    if (!mknod("null", S_IFCHR | 0666, makedev(1, 3))) breach("a device");
    return held("mknod");
}

static int all_devices(int argc, char **argv) {
    (void)argc, (void)argv;
    const char *allowed[] = {"null", "zero", "full", "random", "urandom", "fd", "stdin", "stdout", "stderr", "shm", "pts",
                             "ptmx", "tty",  "mqueue", "core", "console"};
    DIR *devices = opendir("/dev");
    for (struct dirent *entry; devices && (entry = readdir(devices));) {
        size_t i = 0;
        while (i < COUNT(allowed) && strcmp(allowed[i], entry->d_name)) i++;
        if (i == COUNT(allowed) && entry->d_name[0] != '.') breach("/dev/%s", entry->d_name);
    }
    const char *never[] = {"/dev/kvm", "/dev/fuse", "/dev/net/tun", "/dev/loop0", "/dev/loop-control", "/dev/vsock", "/dev/vhost-vsock",
                           "/dev/sda", "/dev/vda", "/dev/nvme0n1", "/dev/userfaultfd", "/dev/kmsg", "/dev/uinput", "/dev/hwrng"};
    for (size_t i = 0; i < COUNT(never); i++)
        if (open(never[i], O_RDONLY | O_NONBLOCK) >= 0) breach("%s", never[i]);
    return held("devices");
}

static int by_handle(int argc, char **argv) {
    (void)argc, (void)argv;
    union {
        struct file_handle handle;
        char room[128];
    } of = {.handle = {.handle_bytes = 64}};
    int mount;
    int named = name_to_handle_at(AT_FDCWD, "/usr", &of.handle, &mount, 0);
    int root = open("/usr", O_RDONLY | O_DIRECTORY);
    for (unsigned inode = 0; inode < 4; inode++) {
        if (named) of.handle.handle_bytes = 8, of.handle.handle_type = 1;
        memset(of.handle.f_handle, 0, 8);
        memcpy(of.handle.f_handle, &inode, 4);
        if (open_by_handle_at(root, &of.handle, O_RDONLY) >= 0) breach("opened inode %u by its handle", inode);
    }
    return held("open_by_handle_at");
}

static int fill(const char *path, long most) {
    static char block[MIB];
    signal(SIGXFSZ, SIG_IGN);
    int fd = open(path, O_WRONLY | O_CREAT, 0600);
    long taken = 0;
    for (ssize_t size; fd >= 0 && taken < most && (size = write(fd, block, sizeof block)) > 0;) taken += size;
    return taken >= most ? breach("%ld MiB in %s", taken / MIB, path) : held("%ld MiB in %s", taken / MIB, path);
}

static int fill_disk(int argc, char **argv) {
    return fill(argc > 1 ? argv[1] : "filled", 96 * MIB);
}

static int fill_with_many(int argc, char **argv) {
    (void)argc, (void)argv;
    char name[30];
    static char block[65536];
    long taken = 0;
    signal(SIGXFSZ, SIG_IGN);
    for (int i = 0; taken < 96 * MIB; i++) {
        snprintf(name, sizeof name, "part%d", i);
        int fd = open(name, O_WRONLY | O_CREAT, 0600);
        ssize_t size = fd < 0 ? -1 : write(fd, block, sizeof block);
        if (size <= 0) return held("%ld MiB in %d files", taken / MIB, i);
        close(fd);
        taken += size;
    }
    return breach("%ld MiB in many files", taken / MIB);
}

static int many_inodes(int argc, char **argv) {
    int most = argc > 1 ? atoi(argv[1]) : 100000;
    char name[30];
    for (int i = 0; i < most; i++) {
        snprintf(name, sizeof name, "n%d", i);
        int failed = i % 3 == 0 ? mkdir(name, 0) : i % 3 == 1 ? symlink("/etc/passwd", name) : close(creat(name, 0));
        if (failed) return held("%d inodes", i);
    }
    return breach("%d inodes", most);
}

static int sparse(int argc, char **argv) {
    signal(SIGXFSZ, SIG_IGN);
    int fd = open(argc > 1 ? argv[1] : "sparse", O_RDWR | O_CREAT, 0600);
    if (fd < 0 || ftruncate(fd, 1L << 40)) return held("ftruncate");
    if (pwrite(fd, "end", 3, (1L << 40) - 3) != 3) return held("pwrite");
    return held("a sparse file of 1 TiB");
}

static int deep(int argc, char **argv) {
    int most = argc > 1 ? atoi(argv[1]) : 5000, made = 0;
    while (made < most && !mkdir("deeper-and-deeper", 0700) && !chdir("deeper-and-deeper")) made++;
    if (made) close(creat("at-the-end", 0));
    return held("%d folders deep", made);
}

static int nasty_names(int argc, char **argv) {
    (void)argc, (void)argv;
    char name[256] = {0};
    for (int byte = 1; byte < 256; byte++)
        if (byte != '/') {
            snprintf(name, sizeof name, "-rf %c\n\x1b[2J", byte);
            close(creat(name, 0));
        }
    memset(name, 'x', 255), close(creat(name, 0));
    close(creat("\xff\xfe", 0600)), close(creat("line\nbreak", 0600)), close(creat("$(reboot)", 0600));
    mkdir("closed", 0700), close(creat("closed/inside", 0600)), chmod("closed", 0);
    int fd = open("closed", O_RDONLY), flags = FS_IMMUTABLE_FL | FS_APPEND_FL;
    if (fd < 0) fd = open(".", O_RDONLY);
    ioctl(fd, FS_IOC_SETFLAGS, &flags);
    chmod(".", 0);
    return held("nasty names");
}

static int links_out(int argc, char **argv) {
    (void)argc, (void)argv;
    if (!link("/etc/passwd", "hard") || !linkat(AT_FDCWD, "/etc/passwd", AT_FDCWD, "hard", AT_SYMLINK_FOLLOW)) breach("hard link of /etc/passwd");
    int fd = open("/etc/passwd", O_RDONLY);
    char path[60];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    if (!linkat(AT_FDCWD, path, AT_FDCWD, "hard", AT_SYMLINK_FOLLOW) || !linkat(fd, "", AT_FDCWD, "hard", AT_EMPTY_PATH))
        breach("hard link of an open file");
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    if (open(path, O_RDWR) >= 0) breach("opened again for writing");
    return held("hard links");
}

/* Each name is what the caller wants to fetch; none of these is a file that it may follow. */
static int plant(int argc, char **argv) {
    const char *secret = argc > 1 ? argv[1] : "/etc/passwd";
    int made = !symlink(secret, "link") + !symlink("/proc/self/environ", "proc-link") + !mkfifo("fifo", 0666) + !mkdir("folder", 0777);
    made += !symlink("/etc", "parent") + !symlink("link", "link-to-link") + !symlink("loop", "loop");
    struct sockaddr_un name = {.sun_family = AF_UNIX, .sun_path = "socket"};
    int listening = socket(AF_UNIX, SOCK_STREAM, 0);
    made += !bind(listening, (struct sockaddr *)&name, sizeof name);
    made += mknod("device", S_IFCHR | 0666, makedev(1, 5)) == 0;
    int fd = creat("closed", 0);
    if (write(fd, "closed answer", 13) == 13) made++;
    fd = open("good", O_WRONLY | O_CREAT, 0644);
    if (write(fd, "good answer", 11) == 11) made++;
    mkdir("folder/inner", 0777);
    fd = creat("folder/inner/answer", 0600);
    if (write(fd, "inner answer", 12) == 12) made++;
    sparse(1, NULL);
    printf("planted %d\n", made);
    return 0;
}

static void swap(void) {
    for (;;) {
        unlink("swapped");
        if (symlink("/etc/passwd", "swapped")) errno = 0;
        unlink("swapped");
        int fd = creat("swapped", 0644);
        if (write(fd, "swapped answer", 14) != 14) errno = 0;
        close(fd);
        unlink("swapped"), mkfifo("swapped", 0666);
    }
}

/* A daemon goes on exchanging what is to be fetched. */
static int swap_output(int argc, char **argv) {
    (void)argc, (void)argv;
    if (fork() == 0) {
        setsid();
        if (fork()) _exit(0);
        swap();
    }
    usleep(50000);
    return held("swapping");
}

static int plant_setuid(int argc, char **argv) {
    const char *folder = argc > 1 ? argv[1] : ".";
    char path[300];
    snprintf(path, sizeof path, "%s/setuid", folder);
    int fd = open(path, O_RDWR | O_CREAT, 0755), self = open("/proc/self/exe", O_RDONLY);
    static char block[65536];
    for (ssize_t size; (size = read(self, block, sizeof block)) > 0;)
        if (write(fd, block, size) != size) return held("write");
    fchmod(fd, 06755), chmod(path, 06755), fchmodat(AT_FDCWD, path, 06755, 0), syscall(452, AT_FDCWD, path, 06755, 0);
    if (fchown(fd, 0, 0) == 0) breach("%s belongs to root", path);
    close(fd);
    struct stat stat_now;
    if (stat(path, &stat_now)) return held("stat");
    return held("mode %o", stat_now.st_mode & 07777);
}

static int hold_locks(int argc, char **argv) {
    (void)argc, (void)argv;
    int fd = creat("answer", 0644);
    if (write(fd, "good answer", 11) != 11) return 1;
    fcntl(fd, F_SETLEASE, F_WRLCK);
    lockf(fd, F_LOCK, 0);
    return held("locks");
}

static int core_dump(int argc, char **argv) {
    (void)argc, (void)argv;
    struct rlimit most = {RLIM_INFINITY, RLIM_INFINITY}, none = {0, 0};
    setrlimit(RLIMIT_CORE, &most), getrlimit(RLIMIT_CORE, &most); /* it may be told that it could, though nothing has changed */
    if (most.rlim_max > 1) breach("the limit of core files is raised");
    if (!setrlimit(RLIMIT_CORE, &none) && !getrlimit(RLIMIT_CORE, &most)) printf("core limit now %ld\n", (long)most.rlim_max), fflush(stdout);
    prctl(PR_SET_DUMPABLE, 1);
    one_more: abort();
    goto one_more;
}

const struct attack attacks_on_files[] = {{"read-file", read_file},
                                          {"private-places", private_places},
                                          {"write-everywhere", write_everywhere},
                                          {"chroot-escape", chroot_escape},
                                          {"old-root", old_root},
                                          {"make-devices", make_devices},
                                          {"all-devices", all_devices},
                                          {"by-handle", by_handle},
                                          {"fill-disk", fill_disk},
                                          {"fill-with-many", fill_with_many},
                                          {"many-inodes", many_inodes},
                                          {"sparse", sparse},
                                          {"deep", deep},
                                          {"nasty-names", nasty_names},
                                          {"links-out", links_out},
                                          {"plant", plant},
                                          {"swap-output", swap_output},
                                          {"plant-setuid", plant_setuid},
                                          {"hold-locks", hold_locks},
                                          {"core-dump", core_dump},
                                          {0}};
