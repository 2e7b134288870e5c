/* What all attack programs share. One static binary holds them; its first word names the one to run.
 *
 * An attack that got what it must not get says BREACH and why, and ends with 99. One that was turned away says "held"
 * and why, and ends with 0: so a look at the output tells a jail that holds from a program that never got so far. */
#ifndef ATTACK_H
#define ATTACK_H
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <grp.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MIB (1024L * 1024L)
#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

struct attack {
    const char *name;
    int (*run)(int argc, char **argv);
};

extern const struct attack attacks_on_time[], attacks_on_memory[], attacks_on_processes[], attacks_on_system[],
    attacks_on_files[], attacks_on_network[], attacks_on_streams[], looks[];

int breach(const char *format, ...) __attribute__((format(printf, 1, 2)));
int held(const char *format, ...) __attribute__((format(printf, 1, 2)));
int verdict_of(const char *what, long answer); /* answer of a system call that must fail */
void burn(double seconds);                     /* processor time of this thread */
double now(void);
pid_t child(void (*run)(void));
void burn_for_ever(void);
void sleep_for_ever(void);
#endif
