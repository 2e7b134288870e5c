/* System calls that a program under judgement never needs: none may reach the kernel's own code, by no way in. */
#include "attack.h"
#include <linux/sched.h>
#include <sys/personality.h>
#include <sys/reboot.h>
#include <linux/seccomp.h>
#include <linux/filter.h>
#include <termios.h>
#include <grp.h>

struct call {
    const char *name;
    long number;
    long arguments[6];
};

static char scratch[4096] = "/";

#define HERE ((long)scratch)
/* Arguments are such that nothing happens to a host that lets them in; an answer other than "not permitted" or "no such
 * call" still tells that the kernel looked at them. */
static const struct call calls[] = {
#ifdef SYS_iopl
    {"iopl", SYS_iopl, {0}},
    {"ioperm", SYS_ioperm, {0x80, 1, 1}},
    {"uselib", SYS_uselib, {HERE}},
    {"ustat", SYS_ustat, {0, HERE}},
    {"sysfs", SYS_sysfs, {3}},
    {"modify_ldt", SYS_modify_ldt, {0, HERE, 16}},
#endif
    {"io_uring_setup", 425, {0, 0}},
    {"io_uring_enter", 426, {-1, 0, 0, 0, 0, 0}},
    {"io_uring_register", 427, {-1, 0, 0, 0}},
    {"bpf", SYS_bpf, {99, HERE, 0}},
    {"perf_event_open", SYS_perf_event_open, {HERE, 0, -1, -1, 0}},
    {"userfaultfd", SYS_userfaultfd, {1}},
    {"keyctl", SYS_keyctl, {0, -3, 0}},
    {"add_key", SYS_add_key, {HERE, HERE, HERE, 1, -1}},
    {"request_key", SYS_request_key, {HERE, HERE, 0, -1}},
    {"kexec_load", SYS_kexec_load, {0, 0, 0, -1}},
    {"kexec_file_load", 320, {-1, -1, 0, 0, -1}},
    {"init_module", SYS_init_module, {0, 0, 0}},
    {"finit_module", SYS_finit_module, {-1, HERE, 0}},
    {"delete_module", SYS_delete_module, {HERE, 0}},
    {"swapon", SYS_swapon, {HERE, 0}},
    {"swapoff", SYS_swapoff, {HERE}},
    {"reboot", SYS_reboot, {0, 0, 0, 0}},
    {"acct", SYS_acct, {HERE}},
    {"quotactl", SYS_quotactl, {-1, HERE, 0, HERE}},
    {"syslog", SYS_syslog, {10, 0, 0}},
    {"sethostname", SYS_sethostname, {HERE, 65}},
    {"setdomainname", SYS_setdomainname, {HERE, 65}},
    {"vhangup", SYS_vhangup, {0}},
    {"mount", SYS_mount, {HERE, HERE, HERE, 0, 0}},
    {"umount2", SYS_umount2, {HERE, 0x100}},
    {"pivot_root", SYS_pivot_root, {HERE, HERE}},
    {"chroot", SYS_chroot, {HERE}},
    {"fsopen", 430, {HERE, 0}},
    {"fsconfig", 431, {-1, 0, 0, 0, 0}},
    {"fsmount", 432, {-1, 0, 0}},
    {"fspick", 433, {-100, HERE, 0}},
    {"move_mount", 429, {-1, HERE, -100, HERE, 0}},
    {"open_tree", 428, {-100, HERE, 1}},
    {"mount_setattr", 442, {-100, HERE, 0, HERE, 32}},
    {"statmount", 457, {HERE, HERE, 100, 0}},
    {"listmount", 458, {HERE, HERE, 10, 0}},
    {"unshare", SYS_unshare, {0x10000000}},
    {"setns", SYS_setns, {-1, 0}},
    {"name_to_handle_at", SYS_name_to_handle_at, {-100, HERE, HERE, HERE, 0}},
    {"open_by_handle_at", SYS_open_by_handle_at, {-100, HERE, 0}},
    {"fanotify_init", SYS_fanotify_init, {0, 0}},
    {"fanotify_mark", SYS_fanotify_mark, {-1, 1, 1, -100, HERE}},
    {"process_vm_readv", SYS_process_vm_readv, {1, 0, 0, 0, 0, 0}},
    {"process_vm_writev", SYS_process_vm_writev, {1, 0, 0, 0, 0, 0}},
    {"pidfd_getfd", 438, {-1, 0, 0}},
    {"kcmp", SYS_kcmp, {1, 1, 0, 0, 0}},
    {"process_madvise", 440, {-1, 0, 0, 0, 0}},
    {"clock_settime", SYS_clock_settime, {0, 0}},
    {"settimeofday", SYS_settimeofday, {0, 0}},
    {"clock_adjtime", SYS_clock_adjtime, {0, 0}},
    {"lookup_dcookie", SYS_lookup_dcookie, {0, HERE, 10}},
    {"migrate_pages", SYS_migrate_pages, {1, 0, 0, 0}},
    {"move_pages", SYS_move_pages, {1, 0, 0, 0, 0, 0}},
    {"nfsservctl", SYS_nfsservctl, {0, 0, 0}},
    {"quotactl_fd", 443, {-1, 0, 0, 0}},
    {"memfd_secret", 447, {0x1000}},
    {"ptrace", SYS_ptrace, {16, 1, 0, 0}},
    {"lsm_set_self_attr", 460, {0, HERE, 0, 1}},
    {"no-such-call", 5000, {0}},
};

static const struct call *named(const char *name) {
    for (size_t i = 0; i < COUNT(calls); i++)
        if (!strcmp(calls[i].name, name)) return &calls[i];
    fprintf(stderr, "no call %s\n", name);
    _exit(97);
}

static int call(int argc, char **argv) {
    if (argc < 2) {
        for (size_t i = 0; i < COUNT(calls); i++) puts(calls[i].name);
        return 0;
    }
    const struct call *one = named(argv[1]);
    const long *a = one->arguments;
    long answer = syscall(one->number, a[0], a[1], a[2], a[3], a[4], a[5]);
    if (answer < 0 && (errno == EPERM || errno == ENOSYS || errno == EACCES)) return held("%s", one->name);
    return breach("%s reached the kernel: %ld", one->name, answer);
}

static int foreign_call(int argc, char **argv) {
    (void)argc, (void)argv;
#ifdef __x86_64__
    long answer;
    __asm__ volatile("int $0x80" : "=a"(answer) : "a"(20L) : "memory"); /* getpid of the 32-bit table */
    if (answer == getpid()) breach("int 0x80 is answered");
    errno = (int)-answer;
#endif
    return held("int 0x80");
}

static int x32_call(int argc, char **argv) {
    (void)argc, (void)argv;
#ifdef __x86_64__
    long answer = syscall(0x40000000 | SYS_getpid);
    if (answer >= 0) breach("x32 is answered");
    if (errno == ENOSYS) errno = EPERM; /* as a kernel without x32 says, too */
#endif
    return held("x32");
}

/* A filter that looks at 64 bits, where the kernel looks at 32, is passed by. */
static int high_bits(int argc, char **argv) {
    (void)argc, (void)argv;
    long high = 1L << 32;
    if (syscall(SYS_socket, high | 40, SOCK_STREAM, 0) >= 0) breach("AF_VSOCK with high bits");
    if (syscall(SYS_socket, high | AF_PACKET, SOCK_RAW, 0) >= 0) breach("AF_PACKET with high bits");
    if (syscall(SYS_socket, high | AF_NETLINK, SOCK_RAW, high | 15) >= 0) breach("AF_NETLINK with high bits");
    if (syscall(SYS_personality, high | 0x0400000) == 0 && (personality(0xffffffff) & 0x0400000))
        breach("personality with high bits");
    if (syscall(SYS_ioctl, 0, high | TIOCSTI, "x") == 0) breach("TIOCSTI with high bits");
    if (syscall(SYS_unshare, high | CLONE_NEWUSER) == 0) breach("unshare with high bits");
    long pid = syscall(SYS_clone, high | CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0);
    if (pid == 0) _exit(0);
    if (pid > 0) breach("clone with high bits");
    return held("high bits");
}

static const struct {
    const char *name;
    long flag;
} spaces[] = {{"user", CLONE_NEWUSER}, {"mnt", CLONE_NEWNS},   {"pid", CLONE_NEWPID},       {"net", CLONE_NEWNET},
              {"ipc", CLONE_NEWIPC},   {"uts", CLONE_NEWUTS},  {"cgroup", CLONE_NEWCGROUP}, {"time", 0x80}};

static int unshare_any(int argc, char **argv) {
    (void)argc, (void)argv;
    for (size_t i = 0; i < COUNT(spaces); i++)
        if (!unshare((int)spaces[i].flag) || !unshare((int)(spaces[i].flag | CLONE_NEWUSER))) breach("unshare %s", spaces[i].name);
    return held("unshare");
}

static int clone_any(int argc, char **argv) {
    (void)argc, (void)argv;
    for (size_t i = 0; i < COUNT(spaces); i++)
        for (int user = 0; user < 2; user++) {
            if (spaces[i].flag == 0x80) continue; /* only clone3 has it; here it is part of a signal's number */
            long pid = syscall(SYS_clone, spaces[i].flag | (user ? CLONE_NEWUSER : 0) | SIGCHLD, 0, 0, 0, 0);
            if (pid == 0) _exit(0);
            if (pid > 0) breach("clone %s", spaces[i].name);
        }
    return held("clone");
}

static int clone3_any(int argc, char **argv) {
    (void)argc, (void)argv;
    for (size_t i = 0; i < COUNT(spaces); i++) {
        struct clone_args shape = {.flags = (uint64_t)spaces[i].flag | CLONE_NEWUSER, .exit_signal = SIGCHLD};
        long pid = syscall(435, &shape, sizeof shape);
        if (pid == 0) _exit(0);
        if (pid > 0) breach("clone3 %s", spaces[i].name);
    }
    struct clone_args into = {.flags = 0x200000000ULL, .exit_signal = SIGCHLD, .cgroup = 0};
    long pid = syscall(435, &into, sizeof into);
    if (pid == 0) _exit(0);
    return pid > 0 ? breach("clone3 into another cgroup") : held("clone3");
}

static int enter_any(int argc, char **argv) {
    (void)argc, (void)argv;
    char path[60];
    const char *names[] = {"user", "mnt", "pid", "net", "ipc", "uts", "cgroup", "time", "pid_for_children"};
    for (int who = 0; who < 2; who++)
        for (size_t i = 0; i < COUNT(names); i++) {
            snprintf(path, sizeof path, "/proc/%s/ns/%s", who ? "1" : "self", names[i]);
            int fd = open(path, O_RDONLY);
            if (fd >= 0 && !setns(fd, 0)) breach("setns %s", path);
            if (fd >= 0) {
                int parent = ioctl(fd, 0xb702), owner = ioctl(fd, 0xb701); /* NS_GET_PARENT, NS_GET_USERNS */
                if (parent >= 0 && !setns(parent, 0)) breach("the parent of %s", path);
                if (owner >= 0 && !setns(owner, 0)) breach("the owner of %s", path);
            }
        }
    int pidfd = syscall(SYS_pidfd_open, 1, 0);
    if (pidfd >= 0 && !setns(pidfd, CLONE_NEWNS | CLONE_NEWPID)) breach("setns by pidfd");
    return held("setns");
}

static int personality_any(int argc, char **argv) {
    (void)argc, (void)argv;
    long kinds[] = {0x0400000, 0x0008, 0x0200000, 0x0100000};
    for (size_t i = 0; i < COUNT(kinds); i++)
        if (personality(kinds[i]) >= 0 && (personality(0xffffffff) & kinds[i])) breach("personality %lx", kinds[i]);
    return held("personality");
}

/* A filter with a listener would let one process of the job answer for another: harmless to us, yet a way to hide. */
static int filter_listener(int argc, char **argv) {
    (void)argc, (void)argv;
    struct sock_filter allow = {BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ALLOW};
    struct sock_fprog program = {1, &allow};
    long fd = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 1UL << 3, &program);
    if (fd >= 0) breach("a listener at descriptor %ld", fd);
    return held("seccomp listener");
}

/* A filter of one's own may not take ours away, nor answer in its place. */
static int own_filter(int argc, char **argv) {
    (void)argc, (void)argv;
    struct sock_filter allow = {BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ALLOW};
    struct sock_fprog program = {1, &allow};
    syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program);
    prctl(PR_SET_SECCOMP, 2, &program);
    long fd = syscall(SYS_keyctl, 0, -3, 0);
    return fd >= 0 ? breach("the filter is gone") : held("a second filter");
}

/* The kernel's table of own-made interruptions: calls into user space instead of the kernel. */
static int dispatch(int argc, char **argv) {
    (void)argc, (void)argv;
    static char selector = 0;
    prctl(59, 1, 0, 0, &selector); /* PR_SET_SYSCALL_USER_DISPATCH */
    long fd = syscall(SYS_keyctl, 0, -3, 0);
    return fd >= 0 ? breach("the filter is gone") : held("user dispatch");
}

static int write_kernel(int argc, char **argv) {
    (void)argc, (void)argv;
    /* Each is written what it holds, where it can be read: a jail that lets it in stays as it is. */
    const char *paths[] = {"/proc/sys/kernel/core_pattern", "/proc/sys/kernel/hostname", "/proc/sys/kernel/domainname",
                           "/proc/sys/kernel/shmmax", "/proc/sys/kernel/msgmax", "/proc/sys/kernel/sem",
                           "/proc/sys/fs/mqueue/msg_max", "/proc/sys/net/ipv4/ip_forward", "/proc/sys/net/ipv4/ping_group_range",
                           "/proc/sys/net/ipv4/ip_unprivileged_port_start", "/proc/sys/user/max_user_namespaces",
                           "/proc/sys/user/max_inotify_instances", "/proc/sys/vm/overcommit_memory",
                           "/proc/sys/kernel/ns_last_pid", "/proc/sys/kernel/modprobe", "/proc/sys/kernel/poweroff_cmd",
                           "/sys/kernel/uevent_helper", "/sys/kernel/mm/transparent_hugepage/enabled", "/proc/mtrr"};
    char text[4096];
    for (size_t i = 0; i < COUNT(paths); i++) {
        int fd = open(paths[i], O_RDONLY);
        ssize_t size = fd < 0 ? 0 : read(fd, text, sizeof text);
        close(fd);
        fd = open(paths[i], O_WRONLY);
        if (fd >= 0 && size > 0 && write(fd, text, size) > 0) breach("%s is written", paths[i]);
    }
    const char *never[] = {"/proc/sysrq-trigger", "/proc/sys/vm/drop_caches", "/proc/sys/fs/binfmt_misc/register",
                           "/proc/kcore", "/dev/mem", "/dev/kmem", "/dev/port", "/dev/kmsg", "/proc/kmsg", "/proc/1/mem",
                           "/proc/acpi/wakeup", "/sys/power/state", "/sys/kernel/debug", "/sys/fs/bpf", "/proc/kpagecount"};
    for (size_t i = 0; i < COUNT(never); i++)
        if (open(never[i], O_WRONLY) >= 0 || open(never[i], O_RDWR) >= 0) breach("%s is open for writing", never[i]);
    for (size_t i = 0; i < 4; i++)
        if (open((const char *[]){"/proc/kcore", "/dev/mem", "/proc/kmsg", "/dev/kmsg"}[i], O_RDONLY | O_NONBLOCK) >= 0)
            breach("kernel memory or messages");
    return held("the kernel's files");
}

static int map_ids(int argc, char **argv) {
    (void)argc, (void)argv;
    const char *paths[] = {"/proc/self/uid_map", "/proc/self/gid_map"};
    for (int i = 0; i < 2; i++) {
        int fd = open(paths[i], O_WRONLY);
        if (fd >= 0 && write(fd, "0 0 1\n", 6) > 0) breach("%s", paths[i]);
    }
    int fd = open("/proc/self/setgroups", O_WRONLY);
    if (fd >= 0 && write(fd, "allow", 5) > 0 && !setgroups(0, NULL)) breach("groups dropped");
    fd = open("/proc/self/oom_score_adj", O_WRONLY);
    if (fd >= 0 && write(fd, "-1000", 5) > 0) breach("safe from the memory killer");
    return held("id maps");
}

static int control_groups(int argc, char **argv) {
    (void)argc, (void)argv;
    const char *roots[] = {"/sys/fs/cgroup", "/sys/fs/cgroup/memory", "/sys/fs/cgroup/pids", "/sys/fs/cgroup/unified",
                           "/sys/fs/cgroup/cpuacct", "/sys/fs/cgroup/freezer"};
    const char *names[] = {"cgroup.procs", "memory.max", "memory.limit_in_bytes", "pids.max", "cgroup.kill", "release_agent",
                           "notify_on_release", "cgroup.subtree_control", "memory.force_empty", "memory.peak"};
    char path[200];
    for (size_t i = 0; i < COUNT(roots); i++) {
        snprintf(path, sizeof path, "%s/mine", roots[i]);
        if (!mkdir(path, 0700)) breach("%s is made", path);
        for (size_t j = 0; j < COUNT(names); j++) {
            snprintf(path, sizeof path, "%s/%s", roots[i], names[j]);
            if (open(path, O_WRONLY) >= 0) breach("%s is open for writing", path);
        }
    }
    return held("control groups");
}

static int terminal(int argc, char **argv) {
    (void)argc, (void)argv;
    const char *text = "touch /tmp/pushed\n";
    for (int fd = 0; fd < 3; fd++) {
        for (const char *at = text; *at; at++)
            if (!ioctl(fd, TIOCSTI, at)) breach("TIOCSTI at descriptor %d", fd);
        char paste[] = {2, 0};
        if (!ioctl(fd, TIOCLINUX, paste) || !ioctl(fd, TIOCCONS, 0)) breach("the console at descriptor %d", fd);
        if (isatty(fd)) breach("descriptor %d is a terminal", fd);
    }
    if (open("/dev/tty", O_RDWR) >= 0) breach("the caller's terminal");
    if (open("/dev/console", O_RDWR | O_NOCTTY) >= 0 || open("/dev/tty0", O_RDWR | O_NOCTTY) >= 0) breach("the console");
    return held("terminal");
}

const struct attack attacks_on_system[] = {{"call", call},
                                           {"foreign-call", foreign_call},
                                           {"x32-call", x32_call},
                                           {"high-bits", high_bits},
                                           {"unshare-any", unshare_any},
                                           {"clone-any", clone_any},
                                           {"clone3-any", clone3_any},
                                           {"enter-any", enter_any},
                                           {"personality-any", personality_any},
                                           {"filter-listener", filter_listener},
                                           {"own-filter", own_filter},
                                           {"dispatch", dispatch},
                                           {"write-kernel", write_kernel},
                                           {"map-ids", map_ids},
                                           {"control-groups", control_groups},
                                           {"terminal", terminal},
                                           {0}};
