#!/bin/sh
# A command of the host, seen from inside a container: Outrider's bridge. Its name is the command's name.
# Needs a POSIX sh and `cat`. OUTRIDER_BRIDGE is the bridge's folder; without it, the folder this file lies in.

# shellcheck disable=SC2094,SC2329 # FIFOs: opened for both ends first, so that no open waits; some functions are called by their carrier's name
bridge_fail() {
    printf 'outrider bridge: %s\n' "$1" >&2
    done=1
    exit 125
}

# A redirection that fails ends a POSIX shell: this says why, wherever it was.
trap '[ "$done" ] || { printf "outrider bridge: the server in %s is gone\n" "$dir" >&2; exit 125; }' EXIT
version='' carrier='' token='' patterns='' quiet='' pid='' its_boot='' space='' # `known` says them
done='' sig='' script='' nostdin='' near='' boot='' copied='' in_pid='' out_pid='' err_pid=''

# sbatch's script lies here; the host gets a copy, of the same name since jobs are called after it. Sets `script`, the word
# that names it, and `script_at`.
find_script() {
    total=$#
    while [ $# -gt 0 ]; do
        case $1 in
        --wrap | --wrap=*) return ;;
        --) shift; break ;;
        --*=* | --contiguous | --exclusive | --help | --hold | --ignore-pbs | --nice | --no-kill | --no-requeue) ;;
        --oversubscribe | --overcommit | --parsable | --propagate | --get-user-env | --quiet | --reboot | --requeue) ;;
        --spread-job | --test-only | --usage | --use-min-nodes | --verbose | --version | --wait) ;;
        --*) shift ;;
        -[hHIkKOQRsvVWX]* | -??*) ;;
        -?) shift ;;
        *) break ;;
        esac
        [ $# -gt 0 ] && shift
    done
    script=${1-}
    script_at=$((total - $# + 1))
}

# Names of exported variables that the server takes; a line inside a value only looks like one.
send_variables() {
    [ "$patterns" ] || return 0
    # The server can look for itself, at what this process was started with: that takes no processes.
    # shellcheck disable=SC3067 # a shell without it goes the long way
    if [ -O "/proc/$pid" ] 2>/dev/null && [ "/proc/$pid/cwd" -ef "$dir/v1" ]; then
        printf 'environ=%s\0' "$$"
        return
    fi
    export -p | while IFS= read -r line; do
        case $line in
        'export '*=*) line=${line#export } ;;
        'declare -x '*=*) line=${line#declare -x } ;;
        *) continue ;;
        esac
        line=${line%%=*}
        case $line in *[!A-Za-z0-9_]* | [0-9]* | '') continue ;; esac
        rest=$patterns,
        while [ "$rest" ]; do
            pattern=${rest%%,*} rest=${rest#*,}
            # shellcheck disable=SC2254 # it is a pattern
            case $line in $pattern) eval "printf 'env=$line=%s\\0' \"\$$line\"" ;; esac
        done
    done
}

send_request() {
    printf 'outrider-bridge-1\0token=%s\0name=%s\0cwd=%s\0map=%s\0how=%s,%s,%s,%s\0' \
        "$token" "$name" "$PWD" "${OUTRIDER_BRIDGE_MAP-}" "${OUTRIDER_BRIDGE_KEEP:+1}" "$nostdin" "$merged" "$$"
    send_variables
    at=0
    for word do
        at=$((at + 1))
        if [ "$script" ] && [ $at = "$script_at" ]; then
            printf 'file=%s\0' "${word##*/}"
            continue
        fi
        printf 'arg=%s\0' "$word"
    done
    printf 'end\0'
}

# Takes a slot that nobody has: only one client can make its `claim`.
claim() {
    while :; do
        low='' high=''
        [ -r "$dir/v1/head" ] && read -r low high <"$dir/v1/head"
        [ "$high" ] || [ -r "$dir/v1/server" ] || bridge_fail "no server in $dir"
        number=${low:-1}
        while [ "$number" -le "${high:-0}" ]; do
            slot=$dir/v1/$number
            if [ -e "$slot.req" ] && [ ! -e "$slot.claim" ]; then
                set -C
                { printf '' >"$slot.claim"; } 2>/dev/null && set +C && [ -e "$slot.req" ] && return
                set +C
            fi
            number=$((number + 1))
        done
        "wait_$carrier"
    done
}

# No slot is free: asks for more, and waits. Without a server, this read ends at once.
wait_fifo() {
    exec 4<>"$dir/v1/more" 5<"$dir/v1/more" 4>&-
    printf 'more\n' 1<>"$dir/v1/reqs"
    read -r _ <&5 || bridge_fail "the server in $dir has ended; start it again on the host"
    exec 5<&-
}

forward() { # SIGNAL
    sig=$1
    printf '%s\n' "$1" 1>&8 2>/dev/null
}

# Waits for a pipe to be copied to its end, also when a signal comes in between.
finish() { # PID
    while :; do
        sig=''
        wait "$1"
        [ "$sig" ] || return 0
    done
}

run_fifo() {
    # For both first, so that no open waits; then for one, so that the server's end is seen. `in` stays open for both.
    exec 4<>"$slot.out" 5<"$slot.out" 4<>"$slot.err" 6<"$slot.err" 4<>"$slot.end" 7<"$slot.end" 4>&- 8<>"$slot.ctl" 9<>"$slot.in"
    for signal in HUP INT QUIT TERM USR1 USR2; do
        # shellcheck disable=SC2064
        trap "forward $signal" "$signal"
    done
    # The server looks at 3, 4 and 2 of this process: 1 is another one's while a builtin writes.
    exec 4>&1
    printf '\n' 1<>"$slot.go"
    printf 'run %s\n' "${OUTRIDER_BRIDGE_KEEP:+1}" >&8
    while :; do
        if ! read -r verb rest <&7; then
            [ "$sig" ] && sig='' && continue
            stop_copying
            bridge_fail "the server in $dir has ended; start it again on the host"
        fi
        case $verb in
        go)
            copied=$rest # streams that the command could not be given as they are, as it was the others
            case $copied in *i*)
                cat <&3 >&9 3<&- 4>&- 5<&- 6<&- 7<&- 8>&- &
                in_pid=$!
                ;;
            esac
            exec 9>&- 3<&- 4>&-
            case $copied in *o*)
                cat <&5 5<&- 6<&- 7<&- 8>&- &
                out_pid=$!
                ;;
            esac
            exec 5<&-
            ;;
        late)
            case $copied in *e*)
                cat <&6 >&2 6<&- 7<&- 8>&- &
                err_pid=$!
                ;;
            esac
            exec 6<&-
            ;;
        exit)
            stop_copying
            said=${rest#* } rest=${rest%% *}
            # Where nothing copies yet, what it said lies in the pipes.
            if [ "$err_pid" ]; then finish "$err_pid"; else case $said in *e*) cat <&6 >&2 ;; esac fi
            if [ "$out_pid" ]; then finish "$out_pid"; else case $said in *o*) cat <&5 ;; esac fi
            done=1
            exit "$rest"
            ;;
        fail) bridge_fail "$rest" ;;
        esac
    done
}

wait_files() {
    waited=$((${waited:-0} + 1))
    [ "$waited" -lt 500 ] || bridge_fail "the server in $dir is gone, or has too much to do"
    sleep .02 || sleep 1
}

stop_copying() {
    [ "$in_pid" ] && kill "$in_pid" 2>/dev/null
}

dir=${OUTRIDER_BRIDGE-}
if [ "$dir" = '' ]; then
    dir=${0%/*}
    dir=${dir%/bin}
fi
name=${0##*/}
case $dir in */v1) dir=${dir%/v1} ;; esac
if [ "$name" = client.sh ]; then
    [ $# -gt 0 ] || bridge_fail "usage: client.sh COMMAND [WORD...]"
    name=${1##*/}
    shift
fi
# What this needs are the image's programs, also where the host's of the same names are allowed: `cat` would start itself.
for place in "${0%/*}" "$dir/bin"; do
    rest=:$PATH:
    while :; do
        case $rest in *":$place:"*) rest=${rest%%":$place:"*}:${rest#*":$place:"} ;; *) break ;; esac
    done
    rest=${rest#:}
    PATH=${rest%:}
done
[ -r "$dir/v1/server" ] || bridge_fail "no server in $dir: start one on the host (\`outrider bridge serve\`), and bind its folder into the container"
# The same as `server`, in words for a shell, which reads a file at once, but its input byte by byte.
# shellcheck disable=SC1091
. "$dir/v1/known"
[ "$version" = 1 ] || bridge_fail "the server in $dir speaks another protocol; use one of the same version"
# A terminal, and the socket, take more than a shell can do.
if [ "$carrier" = socket ] || { [ -t 0 ] && [ -t 1 ] && [ -S "$dir/socket" ]; }; then
    done=1
    if [ -r "$dir/v1/client.py" ] && command -v python3 >/dev/null; then exec python3 -I -S "$dir/v1/client.py" "$dir" "$name" "$@"; fi
    [ "$carrier" != socket ] || bridge_fail "only the socket is served, and this image has no python3; serve with --carrier auto"
    done=''
fi
if [ "$name" = sbatch ]; then
    find_script "$@"
    if [ "$script" ]; then
        [ ! -d "$script" ] && [ -r "$script" ] || bridge_fail "cannot read the script $script"
        quiet=$quiet,sbatch
    fi
fi
case ,$quiet, in *",$name,"*) nostdin=none ;; esac
[ /dev/stdin -ef /dev/null ] && nostdin=none
# One stream for both, and so the order in which they were written, where they lead to one place.
merged=''
[ /dev/stdout -ef /dev/stderr ] && merged=1
exec 3<&0 || { exec 3</dev/null; nostdin=none; }
claim
if [ "$carrier" = files ] && [ "$nostdin" = '' ] && [ -f /dev/stdin ]; then
    # All of it is there already: the command can read it as it lies.
    cat >"$slot.in"
    nostdin=whole
fi
if [ "$script" ]; then cat "$script" >"$slot.script"; fi
send_request "$@" >"$slot.req"
if [ "$carrier" = fifo ]; then run_fifo; fi

# Plain files. A shell reads a script command by command: where pipes carry, it never comes to read this.

# Looked at again and again, and slower the longer it takes.
run_files() {
    times='1' step=2 spent=0 looks=0 seen='' seen_at=0
    exec 5<"$slot.out" 6<"$slot.err"
    for signal in HUP INT QUIT TERM USR1 USR2; do
        # shellcheck disable=SC2064
        trap "forward $signal" "$signal"
    done
    exec 8>>"$slot.ctl"
    printf 'go\n' >"$slot.go"
    if [ "$nostdin" = '' ]; then
        { cat <&3 3<&-; printf 'end\n' >"$slot.in.end"; } >"$slot.in" 5<&- 6<&- 8>&- &
        in_pid=$!
    fi
    while ! ended; do
        looks=$((looks + 1)) spent=$((spent + step + 1))
        # Not at once: most commands have ended by then. And not each time: to copy takes a process.
        if [ "$looks" -gt 4 ]; then
            [ $((looks % 3)) != 0 ] || copy_grown || forward PIPE
            watch_server
        fi
        case $step in
        ?) pause=.00$step ;;
        ??) pause=.0$step ;;
        *) pause=.$step ;;
        esac
        sleep "$pause" || sleep 1
        # Then is when a command that does little ends: to look many times in a row costs less than one more `sleep`.
        case $looks in
        1) step=1 times='1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31 32' ;;
        2) step=5 times=1 ;;
        *) step=$((step * 2)) ;;
        esac
        if [ $step -gt 40 ]; then step=40; fi
        if [ $spent -gt 20000 ]; then step=200; fi
    done
    stop_copying
    # Opened anew, so that a network file system looks whether they have grown.
    { : <"$slot.out"; : <"$slot.err"; }
    copy_grown
    printf 'bye\n' >"$slot.bye"
    done=1
    [ "$verb" = exit ] || bridge_fail "$rest"
    exit "$rest"
}

ended() {
    for _ in $times; do
        if read -r verb rest <"$slot.end"; then return 0; fi
    done
    return 1
}

copy_grown() {
    if [ -s "$slot.err" ]; then cat <&6 >&2; fi
    if [ -s "$slot.out" ]; then cat <&5; fi
}

# Of the command, once it runs, a process of its own on the host has its heartbeat; before that, the server.
watch_server() {
    printf '%s\n' "$looks" >"$slot.live"
    here
    beat='' holder=''
    { read -r beat holder <"$slot.beat"; } 2>/dev/null
    if [ "$near" = yes ]; then
        if [ "$beat" ]; then [ -d "/proc/$holder" ]; else [ "/proc/$pid/cwd" -ef "$dir/v1" ]; fi && return
        ended && return # in the meantime
        bridge_fail "the server in $dir has ended; start it again on the host"
    fi
    [ "$beat" ] || { read -r beat <"$dir/v1/beat"; } 2>/dev/null
    if [ "$beat" ] && [ "$beat" != "$seen" ]; then
        seen=$beat seen_at=$spent
    elif [ $((spent - seen_at)) -gt 2500 ]; then
        bridge_fail "the server in $dir has ended; start it again on the host"
    fi
}

# Whether the server's processes are seen from here: it is at work in the bridge's folder; or this is its machine, and its
# space of process ids. Sets `near`.
here() {
    [ "$near" ] && return
    near=no
    if [ "/proc/$pid/cwd" -ef "$dir/v1" ]; then
        near=yes
        return
    fi
    { read -r boot </proc/sys/kernel/random/boot_id; } 2>/dev/null
    if [ "$boot" = "$its_boot" ] && [ "$space" ] && [ "$(readlink /proc/self/ns/pid 2>/dev/null)" = "$space" ]; then near=yes; fi
}

run_files
