#!/bin/bash
# The host's end of Outrider's bridge: runs allowed commands for programs inside a container.
# Needs bash 4.2 or newer, and of other programs only mkdir, mkfifo, chmod and rm. `--help` says how to use it.
#
# Folder D/v1, as the clients see it:
#   server         what is served: protocol, carrier, token, patterns of variables, commands that read no stdin
#   head           "LOW HIGH": numbers of the slots that may be free
#   claims/NUMBER  made by a client, and only once: the slot of that number is then its
#   slots/NUMBER/  one request. req: words that end in NUL.
#                  fifo: in, out, err; ctl (signals to the command; its end is the client's end); end (the outcome, whose
#                  end is the server's end). files: the same names, growing; in.end when stdin is complete; beat
#   reqs, more     fifo: "run NUMBER", "more" when no slot is free; answered on `more`
#   beat           files: changes while the server lives
# No number is ever used twice, so a server that is started again runs nothing again.

# shellcheck disable=SC2094,SC2329 # FIFOs are opened for both ends first, so that no open waits; some functions are called by their carrier's name
set -u -f
# Bytes are bytes here. Unless it was there before, the variable is not exported: commands do not see it.
[[ -v LC_ALL ]] && locale_was=$LC_ALL
unset LC_ALL
LC_ALL=C
umask 077

usage() {
    cat_here "usage: server.sh --dir FOLDER [--carrier auto|fifo|files] [--allow NAME[=PATH],...] [--preset NAME]
  --dir FOLDER        private folder (mode 0700) that is bound into the container
  --allow NAMES       commands that may be run; each is looked up once, now. Nothing else is ever run
  --preset NAME       slurm-read, slurm, flux or pbs: their commands, variables and paths
  --only NAME:WORD    of NAME, only where the first word that is no option matches this pattern (repeatable)
  --deny NAME:WORD    never NAME with a word that matches this pattern (repeatable)
  --env PATTERNS      variables that the client may hand over, such as SLURM_*,TZ
  --no-stdin NAMES    commands that read no stdin, so that the client leaves its own alone
  --path NAME:OPTION  this option's value is a path, to be translated by the container's binds (repeatable)
  --jobs N            run at most N at once (64)
  --grace SECONDS     between asking a command to end and making it (5)
  --lost SECONDS      files: how long a client may be silent before its command is ended (30)
  --audit FILE        append a JSON line for each request (default: FOLDER.audit.jsonl; none: no)
  --any-user          also take requests made by another user id (needed for root in Docker)
  --singreqrun DIR    serve singreqrun's own protocol in DIR, too. It hands over scripts: no rule can hold them"
}

cat_here() { printf '%s\n' "$1"; }

die() {
    printf 'outrider bridge: %s\n' "$1" >&2
    exit 125
}

# What is not built into bash, found also where PATH is empty.
tool() { command -p -- "$@" 2>/dev/null || command -- "$@"; }

# ---- policy ----

declare -A path_of=() only=() deny=() quiet=() paths=()
patterns=()

allow() {
    local entry name found
    for entry in ${1//,/ }; do
        name=${entry%%=*}
        if [[ $entry == *=* ]]; then found=${entry#*=}; else found=$(type -P -- "$name"); fi
        [[ $name && $name != */* ]] || die "--allow takes names of commands, not ${name@Q}; NAME=/its/path says where it is"
        if [[ $found != /* || ! -x $found ]]; then
            [[ ${2-} == preset ]] && continue
            die "$name: no such command on this host; --allow $name=/its/path says where it is"
        fi
        path_of[$name]=$found
    done
}

list_add() { # TABLE NAME:WORD
    local name=${2%%:*} word=${2#*:}
    [[ $2 == ?*:?* ]] || die "${2@Q} is not NAME:WORD"
    case $1 in
    only) only[$name]+=$word$'\n' ;;
    deny) deny[$name]+=$word$'\n' ;;
    paths) paths[$name]+=$word$'\n' ;;
    esac
}

preset() {
    local name option
    case $1 in
    slurm-read | slurm)
        allow squeue,sinfo,sacct,sstat,sprio,sshare,sdiag,scontrol preset
        for name in squeue sinfo sacct sstat sprio sshare sdiag scontrol; do quiet[$name]=1; done
        patterns+=('SLURM_*' 'SQUEUE_*' 'SINFO_*' 'SACCT_*')
        if [[ $1 == slurm ]]; then
            allow sbatch,srun,salloc,scancel preset
            quiet[scancel]=1
            patterns+=('SBATCH_*' 'SRUN_*' 'SALLOC_*')
            for name in sbatch srun salloc; do
                for option in -D --chdir -o --output -e --error -i --input; do paths[$name]+=$option$'\n'; done
            done
            for name in show ping version hold release requeue requeuehold uhold suspend resume update; do
                only[scontrol]+=$name$'\n'
            done
        else
            for name in show ping version; do only[scontrol]+=$name$'\n'; done
        fi
        ;;
    flux)
        allow flux preset
        patterns+=('FLUX_*')
        for name in submit run batch alloc bulksubmit job jobs cancel resource top version pstree uptime queue watch; do
            only[flux]+=$name$'\n'
        done
        ;;
    pbs)
        allow qsub,qstat,qdel,qhold,qrls,qalter,pbsnodes preset
        for name in qstat qdel qhold qrls qalter pbsnodes; do quiet[$name]=1; done
        patterns+=('PBS_*')
        for option in -o -e; do paths[qsub]+=$option$'\n'; done
        ;;
    *) die "there is no preset ${1@Q}; there are slurm-read, slurm, flux and pbs" ;;
    esac
}

# Sets `why` and fails if the command NAME may not run with these words.
permitted() { # NAME WORD...
    local name=$1 word pattern first=
    shift
    if [[ -z ${path_of[$name]-} ]]; then
        why="$name is not allowed here"
        return 1
    fi
    for word; do
        [[ -z $first && $word != -* ]] && first=$word
        while IFS= read -r pattern; do
            # shellcheck disable=SC2053 # it is a pattern
            if [[ $pattern && $word == $pattern ]]; then
                why="$name is not allowed with ${word@Q}"
                return 1
            fi
        done <<<"${deny[$name]-}"
    done
    [[ ${only[$name]-} ]] || return 0
    while IFS= read -r pattern; do
        # shellcheck disable=SC2053
        [[ $pattern && $first == $pattern ]] && return 0
    done <<<"${only[$name]}"
    why="$name ${first@Q} is not allowed: only $name ${only[$name]//$'\n'/, }"
    why=${why%, }
    return 1
}

# Variables that change what a program of the host is, whoever allowed them.
barred=(LD_* PATH PYTHON* PERL* RUBY* BASH* SHELLOPTS ENV IFS PS4 HOME USER LOGNAME SHELL GCONV_PATH UID EUID PPID
    GROUPS SLURM_CONF SLURM_CONF_* MUNGE* TMPDIR NODE_* GIT_* LOCPATH NLSPATH OUTRIDER_*)

env_permitted() { # NAME
    local pattern
    [[ $1 =~ ^[A-Za-z_][A-Za-z0-9_]*$ ]] || return 1
    for pattern in "${barred[@]}"; do
        # shellcheck disable=SC2053
        [[ $1 == $pattern ]] && return 1
    done
    for pattern in "${patterns[@]+"${patterns[@]}"}"; do
        # shellcheck disable=SC2053
        [[ $1 == $pattern ]] && return 0
    done
    return 1
}

# ---- audit ----

json() { # sets `quoted`
    local text=$1 i char code
    quoted=${text//\\/\\\\}
    quoted=${quoted//\"/\\\"}
    if [[ $quoted == *[^\ -~]* ]]; then
        text=$quoted quoted=
        for ((i = 0; i < ${#text}; i++)); do
            char=${text:i:1}
            if [[ $char == [^\ -~] ]]; then
                printf -v code %d "'$char"
                printf -v char '\\u%04x' $((code & 255))
            fi
            quoted+=$char
        done
    fi
    quoted=\"$quoted\"
}

note() { # EVENT OUTCOME: one line, written at once, of the request in `id`, `name`, `words`, `cwd`
    local line word list=
    [[ $audit ]] || return 0
    # A line is one write, so that those of many requests never mix: long lists are cut.
    for word in "$name" "${words[@]+"${words[@]:0:100}"}"; do
        json "${word:0:500}"
        list+=,$quoted
        ((${#list} > 3000)) && break
    done
    json "$cwd"
    printf -v line '{"time":"%(%Y-%m-%dT%H:%M:%S%z)T","event":"%s","id":"%s","argv":[%s],"words":%d,"cwd":%s,"outcome":"%s"}\n' \
        -1 "$1" "$id" "${list:1}" $((${#words[@]} + 1)) "$quoted" "$2"
    printf '%s' "$line" >>"$audit"
}

# ---- one request; runs in a process of its own ----

why='' name='' cwd='' keep='' merged='' map='' stdin='' token_given=''
words=() variables=()

translate() { # PATH: sets `translated`, by the container's binds (lines of INSIDE=OUTSIDE, longest first)
    local inside outside
    translated=$1
    while IFS='=' read -r inside outside; do
        if [[ $inside && ($1 == "$inside" || $1 == "${inside%/}"/*) ]]; then
            translated=${outside%/}${1#"${inside%/}"}
            return
        fi
    done <<<"$map"
}

read_request() { # FILE
    local word complete=
    {
        IFS= read -r -d '' word && [[ $word == outrider-bridge-1 ]] || {
            why="this client speaks another protocol; use the client of the same version"
            return 1
        }
        while IFS= read -r -d '' word; do
            case $word in
            token=*) token_given=${word#*=} ;;
            name=*) name=${word#*=} ;;
            cwd=*) cwd=${word#*=} ;;
            map=*) map=${word#*=} ;;
            keep=*) keep=${word#*=} ;;
            stdin=*) stdin=${word#*=} ;;
            merged=*) merged=${word#*=} ;;
            env=*) variables+=("${word#*=}") ;;
            arg=*) words+=("${word#*=}") ;;
            file=*) # a script that the client has put beside the request
                [[ ${word#*=} != */* ]] || { why="a script's name holds a slash" && return 1; }
                words+=("${1%/*}/script/${word#*=}")
                ;;
            end) complete=1 && break ;;
            *) ;;
            esac
        done
    } <"$1"
    [[ $complete ]] || { why="the request is not complete" && return 1; }
}

prepare() { # DIR: reads and judges the request, translates paths, goes to its folder
    local dir=$1 i option translated variable
    [[ $any_user || (-O $root/claims/$id && -O $dir/req) ]] || { why="the request is another user's; see --any-user" && return 1; }
    read_request "$dir/req" || return 1
    [[ $token_given == "$token" ]] || { why="the client does not know this server's token" && return 1; }
    permitted "$name" "${words[@]+"${words[@]}"}" || return 1
    translate "$cwd"
    cwd=$translated
    while IFS= read -r option; do
        [[ $option ]] || continue
        for ((i = 0; i < ${#words[@]}; i++)); do
            if [[ ${words[i]} == "$option" && $((i + 1)) -lt ${#words[@]} ]]; then
                translate "${words[i + 1]}"
                words[i + 1]=$translated
            elif [[ $option == --* && ${words[i]} == "$option"=* ]]; then
                translate "${words[i]#*=}"
                words[i]=$option=$translated
            elif [[ $option == -? && ${words[i]} == "$option"/* ]]; then
                translate "${words[i]#"$option"}"
                words[i]=$option$translated
            fi
        done
    done <<<"${paths[$name]-}"
    if [[ $cwd != /* ]] || ! cd -- "$cwd" 2>/dev/null; then
        why="the folder ${cwd@Q} does not exist on the host; start the container with \`outrider bridge exec\`, or set OUTRIDER_BRIDGE_MAP"
        return 1
    fi
    for variable in "${variables[@]+"${variables[@]}"}"; do
        # shellcheck disable=SC2163 # NAME=VALUE, and the name was looked at
        env_permitted "${variable%%=*}" && export "$variable"
    done
    if [[ -v locale_was ]]; then export LC_ALL=$locale_was; fi
    return 0
}

# Runs beside the command: hands signals on; when the client is gone, ends the command.
watch_fifo() { # PGID
    local signal
    while IFS= read -r signal <&5; do pass_on "$signal" "$1"; done
    if [[ $keep ]]; then
        tool cat <&"$drain" >/dev/null & # what it still prints must not hold it up
        tool cat <&"$errors" >/dev/null
    else
        end_group "$1"
    fi
}

pass_on() { # SIGNAL PGID
    case $1 in
    INT | QUIT) kill -s "${deaf:-$1}" -- "-$2" 2>/dev/null ;;
    HUP | TERM | PIPE | USR1 | USR2 | CONT | TSTP | KILL) kill -s "$1" -- "-$2" 2>/dev/null ;;
    esac
}

end_group() { # PGID
    local i
    kill -s HUP -- "-$1" 2>/dev/null
    kill -s CONT -- "-$1" 2>/dev/null
    for ((i = 0; i < grace * 10; i++)); do
        kill -s 0 -- "-$1" 2>/dev/null || return 0
        nap .1
    done
    kill -s KILL -- "-$1" 2>/dev/null
}

# Sleeps without a program: nobody ever writes to this pipe.
nap() { read -r -t "$1" -u "$never" _; }

answer_fifo() { # NUMBER END: runs request NUMBER; END is the descriptor that its outcome is written to
    local end=$2 dir=$slots/$1 pid watcher='' status drain errors said=''
    id=$1
    # Other requests' `end` must be held by nobody but the server: their clients would not see it go.
    [[ $closers ]] && eval "exec $closers"
    exec {more}>&-
    # Opened for both first, then for one: so no open waits for a client that is gone.
    if ! exec 4<>"$dir/ctl" 5<"$dir/ctl" 4>&-; then return; fi
    if ! prepare "$dir"; then
        note refused "refused"
        printf 'fail %s\n' "${why//$'\n'/ }" >&"$end"
        return
    fi
    { exec 4<>"$dir/in" 6<"$dir/in" 4<>"$dir/out" 7>"$dir/out" {drain}<"$dir/out" 4<>"$dir/err" 8>"$dir/err" {errors}<"$dir/err" 4>&-; } 2>/dev/null || return
    [[ $stdin == none ]] && exec 6</dev/null
    [[ $merged ]] && exec 8>&7
    set -m
    (
        exec <&6 >&7 2>&8 3>&- 5<&- 6<&- 7>&- 8>&- {end}>&- {never}<&- {drain}<&- {errors}<&-
        exec "${path_of[$name]}" "${words[@]+"${words[@]}"}"
    ) &
    pid=$!
    exec 6<&-
    # shellcheck disable=SC2064
    trap "end_group $pid" TERM HUP INT
    set +m
    note started "started"
    kill -s 0 "$pid" 2>/dev/null && nap .001
    if kill -s 0 "$pid" 2>/dev/null; then
        # The client starts to copy its streams, and somebody listens to what it says.
        exec 7>&- 8>&-
        [[ $keep ]] || exec {drain}<&- {errors}<&-
        printf 'go\n' >&"$end"
        (
            exec 3>&- {end}>&-
            watch_fifo "$pid"
        ) &
        watcher=$!
        finish "$pid"
    else
        # It has ended already: what it printed lies in its pipes, and needs to be read only if there is any.
        finish "$pid"
        read -r -t 0 -u "$drain" && said+=o
        read -r -t 0 -u "$errors" && said+=e
        exec 7>&- 8>&-
    fi
    printf 'exit %s %s\n' "$status" "$said" >&"$end"
    [[ $watcher ]] && kill -s KILL "$watcher" 2>/dev/null
    note ended "$status"
}

# The same with plain files: they grow, and both sides look again and again.
answer_files() { # NUMBER
    local dir=$slots/$1 pid watcher status pump='' from
    id=$1
    if ! prepare "$dir"; then
        note refused "refused"
        printf 'fail %s\n' "${why//$'\n'/ }" >"$dir/end"
        return
    fi
    case $stdin in
    none) exec {from}</dev/null ;;
    whole) exec {from}<"$dir/in" ;;
    *)
        exec {from}< <(grow "$dir")
        pump=$!
        ;;
    esac
    set -m
    (
        exec <&"$from" >>"$dir/out" 2>>"$dir/err" {from}<&- {never}<&-
        [[ $merged ]] && exec 2>&1
        exec "${path_of[$name]}" "${words[@]+"${words[@]}"}"
    ) &
    pid=$!
    exec {from}<&-
    watch_files "$pid" "$dir" &
    watcher=$!
    # shellcheck disable=SC2064
    trap "end_group $pid" TERM HUP INT
    set +m
    note started "started"
    finish "$pid"
    printf 'exit %s\n' "$status" >"$dir/end"
    kill -s KILL "$watcher" ${pump:+"$pump"} 2>/dev/null
    note ended "$status"
}

grow() { # DIR: copies the client's stdin while it arrives
    local complete=''
    exec 6<"$1/in"
    while [[ ! $complete ]]; do
        IFS= read -r complete <"$1/in.end"
        tool cat <&6 || return
        [[ $complete ]] || nap .01
    done
}

watch_files() { # PGID DIR
    local signal seen='' now since=$SECONDS
    exec 5<"$2/ctl"
    while :; do
        while IFS= read -r signal <&5; do pass_on "$signal" "$1"; done
        nap .05
        IFS= read -r now <"$2/live"
        if [[ $now != "$seen" ]]; then
            seen=$now since=$SECONDS
        elif ((SECONDS - since > lost)); then
            break
        fi
    done
    [[ $keep ]] || end_group "$1"
}

finish() { # PID: waits for it, also when a signal comes; sets `status`
    while :; do
        wait "$1" 2>/dev/null
        status=$?
        kill -s 0 "$1" 2>/dev/null || break
    done
}

# ---- the server, with fifos ----

declare -A end_of=()
next=1 running=0 closers='' filling=''
waiting=() pids=()

fill() { # asks for new slots, made beside the loop, which hears "filled LOW HIGH"
    [[ $filling ]] && return
    filling=1
    local low=$next high=$((next + 15)) n dirs=() fifos=()
    next=$((high + 1))
    for ((n = low; n <= high; n++)); do
        dirs+=("$slots/$n" "$slots/$n/script")
        fifos+=("$slots/$n/in" "$slots/$n/out" "$slots/$n/err" "$slots/$n/ctl" "$slots/$n/end")
    done
    (
        [[ $closers ]] && eval "exec $closers"
        tool mkdir "${dirs[@]}" && tool mkfifo "${fifos[@]}" && printf 'filled %s %s\n' "$low" "$high" >&3
    ) &
}

filled() { # LOW HIGH
    local n fd
    for ((n = $1; n <= $2; n++)); do
        exec {fd}<>"$slots/$n/end" || continue
        end_of[$n]=$fd
    done
    filling=
    publish "$2"
    for ((n = 0; n < asked; n++)); do printf '\n' >&"$more"; done
    asked=0
}

publish() { # HIGH: the range in which a client looks for a free slot
    local n low=$1
    closers=
    for n in "${!end_of[@]}"; do
        ((n < low)) && low=$n
        ((end_of[$n])) && closers+=" ${end_of[$n]}>&-"
    done
    printf '%s %s\n' "$low" "$1" >"$root/head"
}

begin() { # NUMBER
    local fd=${end_of[$1]}
    unset "end_of[$1]"
    closers=
    local n
    for n in "${!end_of[@]}"; do
        ((end_of[$n])) && closers+=" ${end_of[$n]}>&-"
    done
    running=$((running + 1))
    (
        "answer_$carrier" "$1" "$fd"
        ((fd)) && printf 'done %s\n' "$1" >&3
    ) &
    pids[$1]=$!
    ((fd)) && exec {fd}>&-
}

# Slots that were claimed and then left: their client died before it asked. Looked at twice, a while apart.
declare -A claimed_at=()
sweep() {
    local n fd dead=()
    for n in "${!end_of[@]}"; do
        [[ -e $root/claims/$n ]] || continue
        claimed_at[$n]=${claimed_at[$n]-$SECONDS}
        ((SECONDS - claimed_at[$n] > 20)) || continue
        [[ " ${waiting[*]-} " == *" $n "* ]] && continue
        fd=${end_of[$n]}
        ((fd)) && exec {fd}>&-
        unset "end_of[$n]" "claimed_at[$n]"
        dead+=("$slots/$n")
    done
    gone+=("${dead[@]+"${dead[@]}"}")
    remove
}

gone=()
remove() {
    ((${#gone[@]})) || return
    (
        [[ $closers ]] && eval "exec $closers"
        # The claims last: who can make one while its slot goes would own a slot without files.
        tool rm -rf -- "${gone[@]}"
        set +f
        left=()
        for claim in "$root"/claims/*; do [[ -d $slots/${claim##*/} ]] || left+=("$claim"); done
        ((${#left[@]})) && tool rm -f -- "${left[@]}"
    ) &
    gone=()
}

handle() { # VERB NUMBER: one line that came in. Anything else is dropped
    case $1 in
    run)
        [[ $2 =~ ^[0-9]{1,15}$ && ${end_of[$2]-} ]] || return
        if ((running >= jobs)); then
            waiting+=("$2")
        else
            begin "$2"
        fi
        # Freed and looked for late, so that no request waits for it.
        ((${#end_of[@]} - ${#waiting[@]} > 8)) || fill
        ;;
    done)
        [[ ${pids[$2]-} ]] || return
        unset "pids[$2]"
        running=$((running - 1))
        gone+=("$slots/$2")
        if ((${#waiting[@]})); then
            begin "${waiting[0]}"
            waiting=("${waiting[@]:1}")
        fi
        ((${#gone[@]} < 16)) || remove
        ;;
    filled) [[ $filling ]] && filled "$2" "$3" ;;
    more)
        if ((${#end_of[@]} - ${#waiting[@]} > 8)); then
            printf '\n' >&"$more" # they came while it asked
        else
            asked=$((asked + 1))
            fill
        fi
        ;;
    esac
}

serve_fifo() {
    local verb number rest
    tool mkfifo "$root/reqs" "$root/more" || die "cannot make FIFOs in $root; try --carrier files"
    exec 3<>"$root/reqs" {more}<>"$root/more"
    asked=0
    fill
    announce fifo
    while [[ ! $stopping ]]; do
        if IFS=' ' read -r -t 5 verb number rest <&3; then
            handle "$verb" "$number" "$rest"
        else
            reap
            sweep
            follow
        fi
    done
}

# The server in Python that started this one may have been killed: nobody else would end this.
follow() {
    if [[ $with ]] && ! kill -s 0 "$with" 2>/dev/null; then stop; fi
}

# ---- the server, with plain files ----

declare -A finished=()

fill_files() {
    local n file dirs=()
    for ((n = next; n < next + 16; n++)); do dirs+=("$slots/$n" "$slots/$n/script"); done
    tool mkdir "${dirs[@]}" || die "cannot make folders in $slots"
    for ((n = next; n < next + 16; n++)); do
        for file in go in in.end out err ctl end live bye; do : >"$slots/$n/$file"; done
        end_of[$n]=0
    done
    next=$((next + 16))
    publish $((next - 1))
}

# Opened and read, not looked for: what a network file system remembers of a name may be old.
look() { # whether a request came or ended
    local n word found=1
    for n in "${!end_of[@]}"; do
        word=
        IFS= read -r word <"$slots/$n/go"
        [[ $word ]] || continue
        found=0
        if ((running >= jobs)); then
            [[ " ${waiting[*]-} " == *" $n "* ]] || waiting+=("$n")
            continue
        fi
        begin "$n"
    done
    ((${#end_of[@]} - ${#waiting[@]} > 4)) || fill_files
    for n in "${!pids[@]}"; do
        found=0
        kill -s 0 "${pids[$n]}" 2>/dev/null && continue
        unset "pids[$n]"
        running=$((running - 1))
        finished[$n]=$SECONDS
        if ((${#waiting[@]})); then
            begin "${waiting[0]}"
            waiting=("${waiting[@]:1}")
        fi
    done
    return $found
}

put_away() { # slots whose client has read the outcome, or never will
    local n word
    for n in "${!finished[@]}"; do
        word=
        IFS= read -r word <"$slots/$n/bye"
        [[ $word ]] || ((SECONDS - finished[$n] > 300)) || continue
        unset "finished[$n]"
        gone+=("$slots/$n")
    done
    sweep
}

serve_files() {
    local beats=0 active=$SECONDS told=-1
    beat
    fill_files
    announce files
    while [[ ! $stopping ]]; do
        if look; then active=$SECONDS; fi
        if ((SECONDS != told)); then
            beat
            put_away
            follow
            told=$SECONDS
        fi
        if ((SECONDS - active < 5)); then
            nap .002
        elif ((SECONDS - active < 60)); then
            nap .02
        else
            nap .1
        fi
    done
}

beat() {
    beats=$((beats + 1))
    printf '%s\n' "$beats" >"$root/beat"
}

# ---- the socket alone: this holds the folder for the server in Python, which started it ----

serve_socket() {
    tool mkfifo "$root/reqs" "$root/more" || die "cannot make FIFOs in $root"
    exec 3<>"$root/reqs" {more}<>"$root/more"
    announce socket
    while [[ ! $stopping ]]; do
        read -r -t 5 _ <&3
        follow
    done
}

print_policy() {
    local name word
    for name in "${!path_of[@]}"; do printf 'allow %s:%s\n' "$name" "${path_of[$name]}"; done
    for name in "${!quiet[@]}"; do printf 'quiet %s\n' "$name"; done
    for word in "${patterns[@]+"${patterns[@]}"}"; do printf 'env %s\n' "$word"; done
    for word in "${barred[@]}"; do printf 'never %s\n' "$word"; done
    for name in "${!only[@]}"; do print_rules only "$name" "${only[$name]}"; done
    for name in "${!deny[@]}"; do print_rules deny "$name" "${deny[$name]}"; done
    for name in "${!paths[@]}"; do print_rules path "$name" "${paths[$name]}"; done
}

print_rules() { # VERB NAME LINES
    local word
    while IFS= read -r word; do [[ $word ]] && printf '%s %s:%s\n' "$1" "$2" "$word"; done <<<"$3"
}

# Requests whose process was killed from outside never said "done".
reap() {
    local n
    for n in "${!pids[@]}"; do
        kill -s 0 "${pids[$n]}" 2>/dev/null || handle "done" "$n"
    done
}

# ---- singreqrun's protocol: scripts, which no policy can look into ----

serve_singreqrun() {
    local ids line
    declare -A seen=()
    exec 3>&-
    trap - TERM INT HUP
    tool rm -f -- "$legacy/reqs"
    tool mkfifo "$legacy/reqs" || exit
    exec {ids}<>"$legacy/reqs" # for both: so it never ends, and needs no `tail`
    while IFS= read -r line <&"$ids"; do
        [[ $line =~ ^[A-Za-z0-9_=-]{1,64}$ && -z ${seen[$line]-} && -f $legacy/$line.cmd ]] || continue
        [[ $any_user || -O $legacy/$line.cmd ]] || continue
        seen[$line]=1
        run_script "$legacy/$line" &
    done
}

run_script() { # FILE: runs FILE.cmd; each of its streams is a FIFO or a file that the client made, or nothing
    local file=$1 stream status pid guard
    exec {ids}>&-
    for stream in stdin stdout stderr; do
        [[ $stream == stdin || -e $file.$stream ]] || : >"$file.$stream"
    done
    set -m
    (
        # A client that dies before it opens its FIFOs blocks nobody but this, which is ended.
        if [[ -e $file.stdin ]]; then exec <"$file.stdin"; else exec </dev/null; fi
        exec >"$file.stdout" 2>"$file.stderr" {never}<&-
        exec "$BASH" "$file.cmd"
    ) &
    pid=$!
    set +m
    (
        nap "$lost"
        # It has opened nothing yet: its words are still those of this server.
        [[ $(tr '\0' ' ' <"/proc/$pid/cmdline") == *"$file.cmd"* ]] || kill -s KILL -- "-$pid"
    ) 2>/dev/null &
    guard=$!
    finish "$pid"
    kill -s KILL "$guard" 2>/dev/null
    # Under its name it is complete: who sees it can read it.
    printf '%s\n' "$status" >"$file.code.new"
    tool mv -f -- "$file.code.new" "$file.code"
    id=${file##*/} name=singreqrun cwd=$legacy
    note script "$status"
    nap 300
    tool rm -f -- "$file".{cmd,stdin,stdout,stderr,code}
}

# ---- start and end ----

stop() {
    local n
    stopping=1
    [[ $carrier != files ]] && printf 'stop\n' >&3
    for n in "${!pids[@]}"; do kill -s TERM "${pids[$n]}" 2>/dev/null; done
}

announce() { # CARRIER: the clients may come
    local IFS=,
    printf 'outrider-bridge 1 %s %s\nenv %s\nquiet %s\n' "$1" "$token" "${patterns[*]-}" "${!quiet[*]}" >"$root/server"
    IFS=' '
    printf 'outrider bridge: serving %s in %s to whoever can write there\n' "${!path_of[*]}" "$dir"
    local name
    [[ $legacy ]] && printf 'outrider bridge: singreqrun is served in %s: who can write there runs anything, as you\n' "$legacy"
    for name in sbatch srun salloc qsub flux; do
        if [[ ${path_of[$name]-} ]]; then
            printf 'outrider bridge: %s runs whatever it is given, on compute nodes, as you: allowing it lets the container out\n' "$name"
        fi
    done
}

alive() { # whether another server holds this folder
    local was now
    if [[ -p $root/reqs ]]; then
        # Its `more` is held open for writing by the server alone: without one, reading ends at once.
        exec 4<>"$root/more" 5<"$root/more" 4>&-
        read -r -t .05 _ <&5
        now=$?
        exec 5<&-
        ((now > 128)) && return 0
    elif [[ -f $root/beat ]]; then
        IFS= read -r was <"$root/beat"
        nap 1.5
        IFS= read -r now <"$root/beat"
        [[ $was != "$now" ]] && return 0
    fi
    return 1
}

make_shims() { # D/bin/NAME: what the container has on its PATH
    local name
    client >"$root/client.sh"
    ((${#path_of[@]})) || return
    tool rm -rf -- "$dir/bin"
    tool mkdir "$dir/bin"
    for name in "${!path_of[@]}"; do
        client >"$dir/bin/$name"
        shims+=("$dir/bin/$name")
    done
    tool chmod 0755 "${shims[@]}"
}

random_token() {
    local bytes n code hex
    token=
    IFS= read -r -d '' -N 24 bytes </dev/urandom
    for ((n = 0; n < ${#bytes}; n++)); do
        printf -v code %d "'${bytes:n:1}"
        printf -v hex %02x $((code & 255))
        token+=$hex
    done
}

client() { # what a shim is: it lies beside this file, or was put into it by `outrider bridge script`
    [[ ${client_text-} ]] || client_text=$(<"${BASH_SOURCE[0]%/*}/client.sh")
    printf '%s\n' "$client_text"
}

main() {
    hear_signals "$@"
    unset OUTRIDER_BRIDGE_HEARS
    local arguments
    dir='' carrier=auto jobs=64 grace=5 audit=default any_user='' lost=30 beats=0 show='' old='' with='' legacy='' stopping='' shims=() asked=0
    while (($#)); do
        case $1 in
        -h | --help) usage && exit 0 ;;
        --any-user) any_user=1 && shift && continue ;;
        --print-policy) show=1 && shift && continue ;;
        --dir | --carrier | --allow | --preset | --only | --deny | --env | --no-stdin | --path | --jobs | --grace | --lost | --with | --audit | --singreqrun) ;;
        *) die "there is no option ${1@Q}; --help lists them" ;;
        esac
        (($# > 1)) || die "$1 needs a value"
        case $1 in
        --dir) dir=$2 ;;
        --carrier) carrier=$2 ;;
        --allow) allow "$2" ;;
        --preset) preset "$2" ;;
        --only) list_add only "$2" ;;
        --deny) list_add deny "$2" ;;
        --path) list_add paths "$2" ;;
        --env) IFS=, read -r -a arguments <<<"$2" && patterns+=("${arguments[@]}") ;;
        --no-stdin) for name in ${2//,/ }; do quiet[$name]=1; done ;;
        --jobs) jobs=$2 ;;
        --grace) grace=$2 ;;
        --lost) lost=$2 ;;
        --with) with=$2 ;;
        --audit) audit=$2 ;;
        --singreqrun) legacy=$2 ;;
        esac
        shift 2
    done
    if [[ $show ]]; then
        print_policy
        exit 0
    fi
    [[ $dir ]] || die "--dir says in which folder to serve"
    [[ $jobs =~ ^[1-9][0-9]{0,4}$ ]] || die "--jobs takes a number of at least 1"
    [[ $grace =~ ^[0-9]{1,5}$ ]] || die "--grace takes whole seconds"
    [[ $lost =~ ^[0-9]{1,5}$ ]] || die "--lost takes whole seconds"
    ((${#path_of[@]})) || [[ $legacy ]] || die "nothing is allowed, so nothing could be run: --allow or --preset says what"
    case $carrier in auto) choose_carrier ;; fifo | files | socket) ;; *) die "there is no carrier ${carrier@Q} here; there are fifo and files" ;; esac
    take_folder
    if [[ $legacy ]]; then
        [[ -d $legacy ]] || tool mkdir -p -m 0700 -- "$legacy" || die "cannot make the folder $legacy"
        serve_singreqrun &
        old=$!
    fi
    "serve_$carrier"
    leave
}

# Who starts a program in the background of a script has it ignore INT and QUIT, and bash hands that on to all commands.
hear_signals() {
    local word value
    deaf=''
    while read -r word value; do [[ $word == SigIgn: ]] && break; done <"/proc/$BASHPID/status"
    ((0x${value:-0} & 2)) || return
    if [[ ! ${OUTRIDER_BRIDGE_HEARS-} ]] && tool env --default-signal=INT,QUIT true 2>/dev/null; then
        OUTRIDER_BRIDGE_HEARS=1 exec env --default-signal=INT,QUIT "$BASH" "${BASH_SOURCE[0]}" "$@"
    fi
    deaf=TERM
}

# FIFOs carry nothing from one machine to another.
choose_carrier() {
    local kind
    carrier=fifo
    [[ -d $dir ]] || return
    kind=$(tool stat -f -c %T -- "$dir")
    case $kind in nfs* | lustre | gpfs | beegfs | cifs | smb* | fuse* | ceph | afs | pvfs* | orangefs) carrier=files ;; esac
}

take_folder() {
    [[ -d $dir ]] || tool mkdir -p -m 0700 -- "$dir" || die "cannot make the folder $dir"
    dir=$(cd -- "$dir" && pwd -P) || die "cannot enter $dir"
    [[ -O $dir ]] || die "$dir is not yours"
    tool chmod 0700 "$dir" || die "cannot make $dir private"
    root=$dir/v1 slots=$dir/v1/slots
    # A pipe that stays empty, for waiting.
    exec {never}<> <(:)
    alive && die "another server serves $dir"
    # Beside the folder, where the container cannot reach it.
    [[ $audit == default ]] && audit=$dir.audit.jsonl
    [[ $audit == none ]] && audit=
    [[ -z $audit ]] || { : >>"$audit"; } 2>/dev/null || die "cannot write $audit; --audit FILE says where, --audit none nowhere"
    tool rm -rf -- "$root"
    tool mkdir "$root" "$slots" "$root/claims" || die "cannot write in $dir"
    # Numbers start where no earlier server's can have been.
    printf -v next '%(%s)T' -1
    next=$((next * 1000))
    random_token
    make_shims
    set -m
    trap stop TERM INT HUP
    trap : PIPE # not ignored: commands would inherit that
}

leave() {
    local i
    [[ $old ]] && kill -s TERM -- "-$old" 2>/dev/null
    tool rm -f -- "$root/server" "$root/head"
    for ((i = 0; i < (grace + 1) * 10; i++)); do
        if [[ $carrier == files ]]; then
            look
            put_away
            beat
        fi
        [[ $(jobs -rp) || ${!finished[*]} ]] || break
        nap .1
    done
    tool rm -rf -- "$root"
    exit 0
}

main "$@"
