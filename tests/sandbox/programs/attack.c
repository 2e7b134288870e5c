/* Finds the attack that the first word names. */
#include "attack.h"

static void say(const char *word, const char *format, va_list rest) {
    char text[1000];
    int error = errno, size = snprintf(text, sizeof text, "%s: ", word);
    size += vsnprintf(text + size, sizeof text - size - 100, format, rest);
    size += snprintf(text + size, 100, " (%s)\n", error ? strerror(error) : "no error");
    if (write(1, text, size) < 0) _exit(98);
}

int breach(const char *format, ...) {
    va_list rest;
    va_start(rest, format);
    say("BREACH", format, rest);
    va_end(rest);
    _exit(99);
}

int held(const char *format, ...) {
    va_list rest;
    va_start(rest, format);
    say("held", format, rest);
    va_end(rest);
    return 0;
}

int verdict_of(const char *what, long answer) {
    if (answer >= 0) breach("%s gave %ld", what, answer);
    return held("%s", what);
}

double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec + time.tv_nsec / 1e9;
}

void burn(double seconds) {
    struct timespec time;
    do {
        for (volatile int i = 0; i < 20000; i++) {
        }
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    } while (time.tv_sec + time.tv_nsec / 1e9 < seconds);
}

void burn_for_ever(void) {
    for (;;) burn(1e9);
}

void sleep_for_ever(void) {
    for (;;) pause();
}

pid_t child(void (*run)(void)) {
    pid_t pid = fork();
    if (pid) return pid;
    run();
    _exit(0);
}

int main(int argc, char **argv) {
    const struct attack *tables[] = {attacks_on_time,  attacks_on_memory,  attacks_on_processes, attacks_on_system,
                                     attacks_on_files, attacks_on_network, attacks_on_streams,   looks};
    for (size_t i = 0; i < COUNT(tables); i++)
        for (const struct attack *one = tables[i]; one->name; one++) {
            if (argc == 1) puts(one->name);
            if (argc > 1 && !strcmp(one->name, argv[1])) {
                errno = 0;
                return one->run(argc - 1, argv + 1);
            }
        }
    if (argc > 1) fprintf(stderr, "no attack %s\n", argv[1]);
    return 97;
}
