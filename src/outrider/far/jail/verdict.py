"""From what happened to a verdict: one word, the exit code or signal, and a message that says why."""

OK, RE, TLE, MLE, OLE, RV, SE = "OK", "RE", "TLE", "MLE", "OLE", "RV", "SE"
SIGXFSZ = 25


def judge(cause, status, limits, figures, memory_killed):
    """(verdict, exit code, signal, message). `cause`: (kind, words) why the warden ended it; `status`: as of wait."""
    signal = status & 0x7F if status is not None else 9
    code = status >> 8 if status is not None and not signal else None
    told = (code, signal or None)
    if cause is not None and cause[0] != "memory":
        return (cause[0], *told, cause[1])
    if memory_killed or (cause is not None):
        return MLE, *told, "it needed more than %s bytes of memory" % limits.get("memory")
    cpu = figures.get("cpu_s")
    if limits.get("time") is not None and cpu is not None and cpu > limits["time"]:
        return TLE, *told, over_cpu(limits)
    if limits.get("wall") is not None and figures["wall_s"] > limits["wall"]:
        return TLE, *told, over_wall(limits)
    if signal == SIGXFSZ:
        return RE, *told, "a file of it became larger than %s bytes" % limits.get("disk")
    if signal:
        return RE, *told, "it was ended by signal %d" % signal
    if code:
        return RE, *told, "it ended with exit code %d" % code
    return OK, *told, ""


def over_cpu(limits):
    return "it used more than %g s of processor time" % limits["time"]


def over_wall(limits):
    return "it took longer than %g s" % limits["wall"]
