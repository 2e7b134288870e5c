/* The network: the host's own services, and kinds of sockets that reach past namespaces. */
#include "attack.h"
#include <arpa/inet.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/vm_sockets.h>
#include <netinet/in.h>
#include <poll.h>
#include <stddef.h>

#ifndef IPPROTO_L2TP
#define IPPROTO_L2TP 115
#endif

/* Whether a connection that is under way comes about, or at least has a way to go. */
static int answered(int fd, int loopback) {
    struct pollfd wait = {fd, POLLOUT, 0};
    int error = 0;
    socklen_t size = sizeof error;
    if (errno != EINPROGRESS) return 0;
    if (poll(&wait, 1, 100) == 0) return !loopback;
    return !getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) && error == 0;
}

static int reach(int argc, char **argv) {
    int port = argc > 1 ? atoi(argv[1]) : 22;
    struct sockaddr_in four = {.sin_family = AF_INET, .sin_port = htons(port)};
    struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_port = htons(port), .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    const char *hosts[] = {"127.0.0.1", "0.0.0.0", "127.0.0.2", "10.0.0.1", "169.254.169.254", "172.17.0.1", "8.8.8.8"};
    for (size_t i = 0; i < COUNT(hosts); i++) {
        int stream = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), packets = socket(AF_INET, SOCK_DGRAM, 0);
        inet_pton(AF_INET, hosts[i], &four.sin_addr);
        if (stream >= 0 && (!connect(stream, (void *)&four, sizeof four) || answered(stream, i < 3))) breach("connecting to %s", hosts[i]);
        if (packets >= 0 && sendto(packets, "canary", 6, 0, (void *)&four, sizeof four) > 0 && i > 2) breach("a packet to %s", hosts[i]);
        close(stream), close(packets);
    }
    int stream = socket(AF_INET6, SOCK_STREAM, 0);
    if (stream >= 0 && !connect(stream, (void *)&six, sizeof six)) breach("connecting to ::1");
    stream = socket(AF_INET, SOCK_STREAM, 0);
    if (stream >= 0 && sendto(stream, "x", 1, MSG_FASTOPEN, (void *)&four, sizeof four) > 0) breach("fast open");
    return held("connect");
}

static int dns(int argc, char **argv) {
    (void)argc, (void)argv;
    struct sockaddr_in server = {.sin_family = AF_INET, .sin_port = htons(53)};
    FILE *file = fopen("/etc/resolv.conf", "r");
    char line[300], text[100];
    while (file && fgets(line, sizeof line, file))
        if (sscanf(line, "nameserver %99s", text) == 1 && inet_pton(AF_INET, text, &server.sin_addr) == 1) {
            int fd = socket(AF_INET, SOCK_DGRAM, 0);
            if (fd >= 0 && sendto(fd, "x", 1, 0, (void *)&server, sizeof server) > 0) breach("a packet to %s", text);
        }
    return held("name server");
}

static int abstract_socket(int argc, char **argv) {
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    const char *word = argc > 1 ? argv[1] : "x";
    strncpy(name.sun_path + 1, word, sizeof name.sun_path - 2);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    if (fd >= 0 && !connect(fd, (void *)&name, offsetof(struct sockaddr_un, sun_path) + 1 + strlen(word))) breach("abstract socket");
    return held("abstract socket");
}

static int path_sockets(int argc, char **argv) {
    const char *paths[] = {"/run/docker.sock", "/var/run/docker.sock", "/run/dbus/system_bus_socket", "/run/systemd/private",
                           "/run/udev/control", "/run/containerd/containerd.sock", "/dev/log", "/run/nscd/socket", argc > 1 ? argv[1] : "/x"};
    for (size_t i = 0; i < COUNT(paths); i++) {
        struct sockaddr_un name = {.sun_family = AF_UNIX};
        strncpy(name.sun_path, paths[i], sizeof name.sun_path - 1);
        int fd = socket(AF_UNIX, SOCK_STREAM, 0);
        if (fd >= 0 && !connect(fd, (void *)&name, sizeof name)) breach("%s", paths[i]);
    }
    return held("sockets in folders");
}

static int vsock(int argc, char **argv) {
    (void)argc, (void)argv;
    int fd = socket(AF_VSOCK, SOCK_STREAM, 0);
    if (fd < 0) return held("AF_VSOCK");
    struct sockaddr_vm name = {.svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_HOST, .svm_port = 22};
    if (!connect(fd, (void *)&name, sizeof name)) breach("connected to the machine's host");
    return breach("a socket past all namespaces");
}

/* All other families: each is kernel code that a program under judgement never needs. */
static int odd_families(int argc, char **argv) {
    (void)argc, (void)argv;
    int kinds[] = {SOCK_STREAM, SOCK_DGRAM, SOCK_RAW, SOCK_SEQPACKET, SOCK_RDM};
    char found[1000] = "";
    for (int family = 0; family < 64; family++) {
        if (family == AF_UNIX || family == AF_INET || family == AF_INET6) continue;
        for (size_t i = 0; i < COUNT(kinds); i++) {
            int pair[2];
            /* Of netlink, what tells about a job's own interfaces is harmless, and what getaddrinfo asks. */
            int made = family == AF_NETLINK ? socket(family, kinds[i], NETLINK_AUDIT) >= 0 || socket(family, kinds[i], 15) >= 0
                                            : socket(family, kinds[i], 0) >= 0;
            if (made || !socketpair(family, kinds[i], 0, pair) || errno == EOPNOTSUPP || errno == ESOCKTNOSUPPORT) {
                sprintf(found + strlen(found), " %d/%d", family, kinds[i]);
                break;
            }
        }
    }
    int protocols[] = {IPPROTO_SCTP, IPPROTO_DCCP, IPPROTO_UDPLITE, IPPROTO_L2TP, 262};
    for (size_t i = 0; i < COUNT(protocols); i++)
        for (size_t j = 0; j < COUNT(kinds); j++)
            if (socket(AF_INET, kinds[j], protocols[i]) >= 0) sprintf(found + strlen(found), " IP/%d", protocols[i]);
    if (*found) breach("sockets of the families%s", found);
    return held("odd families");
}

static int raw_sockets(int argc, char **argv) {
    (void)argc, (void)argv;
    if (socket(AF_INET, SOCK_RAW, IPPROTO_RAW) >= 0 || socket(AF_INET, SOCK_RAW, IPPROTO_ICMP) >= 0) breach("raw socket");
    if (socket(AF_INET6, SOCK_RAW, IPPROTO_ICMPV6) >= 0) breach("raw socket");
    if (socket(AF_PACKET, SOCK_RAW, 0) >= 0 || socket(AF_PACKET, SOCK_DGRAM, 0) >= 0) breach("packet socket");
    return held("raw sockets");
}

/* A listening socket, a name in the abstract, and an address left in TIME_WAIT: for the next job to stumble over. */
static int leave_sockets(int argc, char **argv) {
    (void)argc, (void)argv;
    struct sockaddr_in here = {.sin_family = AF_INET, .sin_port = htons(4242), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    struct sockaddr_un name = {.sun_family = AF_UNIX, .sun_path = "\0left"};
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    if (bind(fd, (void *)&name, offsetof(struct sockaddr_un, sun_path) + 5)) breach("the name is taken: somebody was here before");
    fd = socket(AF_INET, SOCK_STREAM, 0);
    if (fd >= 0 && bind(fd, (void *)&here, sizeof here) && errno == EADDRINUSE) breach("the port is taken");
    if (fd >= 0) listen(fd, 5);
    return held("sockets are left");
}

/* A name, held by a socket that is on its way inside itself: until the kernel finds the circle, it is taken. */
static int leave_circle(int argc, char **argv) {
    (void)argc, (void)argv;
    struct sockaddr_un name = {.sun_family = AF_UNIX, .sun_path = "\0left-in-a-circle"};
    int ends[2];
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    if (bind(fd, (void *)&name, offsetof(struct sockaddr_un, sun_path) + 17)) breach("the name is taken: somebody was here before");
    listen(fd, 5);
    if (socketpair(AF_UNIX, SOCK_DGRAM, 0, ends)) return held("socketpair");
    int sent[3] = {fd, ends[0], ends[1]};
    char room[CMSG_SPACE(sizeof sent)] = {0}, byte = 0;
    struct iovec data = {&byte, 1};
    struct msghdr message = {.msg_iov = &data, .msg_iovlen = 1, .msg_control = room, .msg_controllen = sizeof room};
    struct cmsghdr *head = CMSG_FIRSTHDR(&message);
    head->cmsg_level = SOL_SOCKET, head->cmsg_type = SCM_RIGHTS, head->cmsg_len = CMSG_LEN(sizeof sent);
    memcpy(CMSG_DATA(head), sent, sizeof sent);
    if (sendmsg(ends[0], &message, 0) < 0) return held("sendmsg");
    return held("a socket in a circle is left");
}

/* Packets and connections to oneself are counted by the network namespace: a letter box for the next job. */
static int talk_to_self(int argc, char **argv) {
    (void)argc, (void)argv;
    struct sockaddr_in here = {.sin_family = AF_INET, .sin_port = htons(4243), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    if (fd < 0 || bind(fd, (void *)&here, sizeof here)) return held("bind");
    for (int i = 0; i < 42; i++)
        if (sendto(fd, "a secret of mine", 16, 0, (void *)&here, sizeof here) < 0) return held("sendto");
    return held("42 packets");
}

const struct attack attacks_on_network[] = {{"reach", reach},
                                            {"dns", dns},
                                            {"abstract-socket", abstract_socket},
                                            {"path-sockets", path_sockets},
                                            {"vsock", vsock},
                                            {"odd-families", odd_families},
                                            {"raw-sockets", raw_sockets},
                                            {"leave-sockets", leave_sockets},
                                            {"leave-circle", leave_circle},
                                            {"talk-to-self", talk_to_self},
                                            {0}};
