/* A 32-bit program: all of its system calls come by another door. It prints a word and ends with 5. */
static long call(long number, long a, long b, long c) {
    long answer;
    __asm__ volatile("int $0x80" : "=a"(answer) : "a"(number), "b"(a), "c"(b), "d"(c) : "memory");
    return answer;
}

void _start(void) {
    call(4, 1, (long)"BREACH: a 32-bit program runs\n", 30);
    call(1, 5, 0, 0);
    for (;;) {
    }
}
