#!/bin/bash
# The host's end of Outrider's bridge: runs allowed commands for programs inside a container.
# Needs bash 4.2 or newer, and of other programs only mkdir, mkfifo, chmod, cp, mv, ln, cat and rm. `--help` says how to use it.
#
# Folder D/v1, as the clients see it:
#   server      what is served: protocol, carrier, token, patterns of variables, commands that read no stdin; the server's pid
#   head        "LOW HIGH": numbers of the slots that may be free
#   NUMBER.*    one request, a slot. claim: made by a client, and only once: the slot is then its. req: words that end in NUL;
#               script: sbatch's. fifo: in, out, err; go ("run"); ctl ("run", then signals to the command; its end is the
#               client's end); end (the outcome, whose end is the server's end). files: the same names, growing; go, when req
#               is complete; in.end, when stdin is; live, bye; beat, as below, while the command runs
#   reqs, more  fifo: "more" when no slot is free; answered on `more`
#   beat        files: changes while the server lives
# No number is ever used twice, so a server that is started again runs nothing again.
#
# All of that are hard links. The host opens the same files under their names in D.host/v1, which no container sees: what
# a container puts in the place of a name, a link to elsewhere say, is never opened here.

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
        [[ ${deny[$name]-} ]] || continue
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
    if [[ $1 != *[^\ !\#-\[\]-~]* ]]; then
        quoted=\"$1\"
        return
    fi
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

note() { # EVENT OUTCOME: one line, written at once, of the request in `id`, `name`, `words`, `cwd`; sets `described`
    local word list=
    [[ $audit ]] || return 0
    # A line is one write, so that those of many requests never mix: long lists are cut.
    if ((${#words[@]} < 20)); then word="$name${words[*]-}$cwd"; else word=; fi
    if [[ $word && ${#word} -lt 400 && $word != *[^\ !\#-\[\]-~]* ]]; then # as most are: nothing to cut, nothing to be quoted
        printf -v list ',"%s"' "$name" "${words[@]+"${words[@]}"}"
        described="\"argv\":[${list:1}],\"words\":$((${#words[@]} + 1)),\"cwd\":\"$cwd\""
        note_again "$1" "$2"
        return
    fi
    for word in "$name" "${words[@]+"${words[@]:0:100}"}"; do
        json "${word:0:500}"
        list+=,$quoted
        ((${#list} > 3000)) && break
    done
    json "$cwd"
    described="\"argv\":[${list:1}],\"words\":$((${#words[@]} + 1)),\"cwd\":$quoted"
    note_again "$1" "$2"
}

note_again() { # EVENT OUTCOME: of what is in `described`
    local line
    [[ $audit ]] || return 0
    printf -v line '{"time":"%(%Y-%m-%dT%H:%M:%S%z)T","event":"%s","id":"%s",%s,"outcome":"%s"}\n' -1 "$1" "$id" "$described" "$2"
    printf '%s' "$line" >>"$audit"
}

# ---- one request; runs in a process of its own ----

why='' name='' id='' cwd='' keep='' merged='' map='' stdin='' token_given='' client='' script='' described=''
words=() variables=()

translate() { # PATH: sets `translated`, by the container's binds (lines of INSIDE=OUTSIDE, longest first)
    local inside outside
    translated=$1
    [[ $map ]] || return
    while IFS='=' read -r inside outside; do
        if [[ $inside && ($1 == "$inside" || $1 == "${inside%/}"/*) ]]; then
            translated=${outside%/}${1#"${inside%/}"}
            return
        fi
    done <<<"$map"
}

# The variables of a client that is a process of this user's, here, and holds this request's `ctl`.
read_environ() { # PID
    local entry wanted all=()
    local IFS='|'
    wanted="@(${patterns[*]-})"
    IFS=' '
    if [[ $1 =~ ^[0-9]{1,9}$ && /proc/$1/fd/8 -ef $own/$id.ctl ]]; then
        if ((BASH_VERSINFO[0] > 4 || BASH_VERSINFO[1] > 3)); then
            mapfile -d '' -t all <"/proc/$1/environ"
        else
            while IFS= read -r -d '' entry; do all+=("$entry"); done <"/proc/$1/environ"
        fi
    fi 2>/dev/null
    ((${#all[@]})) || { why="the client's variables cannot be seen" && return 1; }
    for entry in "${all[@]}"; do
        # shellcheck disable=SC2053 # it is a pattern
        [[ ${entry%%=*} == $wanted ]] && variables+=("$entry")
    done
    return 0
}

read_request() { # DESCRIPTOR
    local word complete='' all=()
    if ((BASH_VERSINFO[0] > 4 || BASH_VERSINFO[1] > 3)); then
        mapfile -d '' -t all <&"$1"
    else
        while IFS= read -r -d '' word; do all+=("$word"); done <&"$1"
    fi
    [[ ${all-} == outrider-bridge-1 ]] || {
        why="this client speaks another protocol; use the client of the same version"
        return 1
    }
    for word in "${all[@]}"; do
        case $word in
        token=*) token_given=${word#*=} ;;
        name=*) name=${word#*=} ;;
        cwd=*) cwd=${word#*=} ;;
        map=*) map=${word#*=} ;;
        how=*) # KEEP,STDIN,MERGED,PID
            word=${word#*=},,,
            keep=${word%%,*} word=${word#*,}
            stdin=${word%%,*} word=${word#*,}
            merged=${word%%,*} word=${word#*,}
            client=${word%%,*}
            ;;
        env=*) variables+=("${word#*=}") ;;
        environ=*) read_environ "${word#*=}" || return 1 ;;
        arg=*) words+=("${word#*=}") ;;
        file=*) # a script that the client has put beside the request
            [[ ${word#*=} != */* ]] || { why="a script's name holds a slash" && return 1; }
            script=${word#*=}
            words+=("$host/scripts/$id/$script")
            ;;
        end) complete=1 && break ;;
        *) ;;
        esac
    done
    [[ $complete ]] || { why="the request is not complete" && return 1; }
}

prepare() { # DESCRIPTOR: reads and judges the request, translates paths, goes to its folder
    local i option translated variable
    [[ $any_user || (! -L $root/$id.claim && -O $root/$id.claim) ]] || { why="the request is another user's; see --any-user" && return 1; }
    read_request "$1" || return 1
    [[ $token_given == "$token" ]] || { why="the client does not know this server's token" && return 1; }
    permitted "$name" "${words[@]+"${words[@]}"}" || return 1
    if [[ $map ]]; then
        translate "$cwd"
        cwd=$translated
    fi
    [[ $map && ${paths[$name]-} ]] && while IFS= read -r option; do
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
    if [[ $cwd != /* || ! -d $cwd || ! -x $cwd ]] || ! cd -- "$cwd"; then
        why="the folder ${cwd@Q} does not exist on the host; start the container with \`outrider bridge exec\`, or set OUTRIDER_BRIDGE_MAP"
        return 1
    fi
    for variable in "${variables[@]+"${variables[@]}"}"; do
        # shellcheck disable=SC2163 # NAME=VALUE, and the name was looked at
        env_permitted "${variable%%=*}" && export "$variable"
    done
    if [[ -v locale_was ]]; then export LC_ALL=$locale_was; fi
    [[ ! $script ]] && return 0
    # Where no container can put another in its place.
    tool mkdir "$host/scripts/$id" && tool cat <"$own/$id.script" >"$host/scripts/$id/$script" && return 0
    why="the script cannot be put down on the host"
    return 1
}

# Waits beside the command: has the client copy its streams, hands its signals on; when it is gone, ends the command.
watch_fifo() { # PGID DIR
    local signal='' early='' keep='' copied='' drain errors
    exec 5<>"$2.ctl" {drain}<"$2.out" {errors}<"$2.err" 7>&- 8>&-
    while [[ $signal != run ]]; do
        # A command can be at work, and a signal come for it, before its client's word does.
        if IFS=' ' read -r -n 64 -t 30 signal keep <&5; then
            early+=" $signal"
        else
            kill -s 0 "$main" 2>/dev/null || return
            [[ -s $2.told ]] && break # the client died between its two words
        fi
    done
    # From now on, its end is the client's end; and what the command prints is the client's to read.
    exec 4<"$2.ctl" 5<&4 4<&-
    [[ $keep ]] || exec {drain}<&- {errors}<&-
    for signal in $early; do pass_on "$signal" "$1"; done
    nap .003 # most commands that say nothing are over by then, and nothing needs to be copied
    [[ ! -s $2.told ]] || kill -s 0 "$1" 2>/dev/null || exit
    printf 'taken %s\n' "$id" >&3
    exec 3>&-
    until [[ -s $2.told ]]; do nap .003; done
    IFS= read -r copied <"$2.told"
    printf 'go %s\n' "$copied" >&"$end"
    nap .02
    printf 'late\n' >&"$end"
    while IFS= read -r -n 64 signal <&5; do pass_on "$signal" "$1"; done
    if [[ $keep ]]; then
        tool cat <&"$drain" >/dev/null & # what it still prints must not hold it up
        tool cat <&"$errors" >/dev/null
    else
        end_group "$1"
    fi
}

# The client's own pipe, opened anew as 9, so that nobody needs to copy: where the client is a process that this machine
# shows, and it is the one that holds this request's `ctl`.
reach() { # DESCRIPTOR-OF-THE-CLIENT r|w
    local there=/proc/$client/fd/$1
    [[ $near && -p $there && -r $there && -w $there ]] || return
    # For both first, so that no open waits.
    exec 4<>"$there" || return
    if [[ $2 == r ]]; then exec 9<"$there" 4>&-; else exec 9>>"$there" 4>&-; fi
    [[ -p /dev/fd/9 && /dev/fd/9 -ef $there && /proc/$client/fd/8 -ef $own/$id.ctl ]]
}

connect() { # DIR: the command's streams: 6, 7 and 8; `copied` names those that the client copies
    local near=''
    copied=
    [[ ! $keep && $client != *[!0-9]* && /proc/$client/fd/8 -ef $1.ctl ]] && near=1
    if [[ $stdin == none ]]; then
        exec 6</dev/null
    elif reach 3 r; then
        exec 6<&9
    else
        copied=i
    fi
    if reach 4 w; then exec 7>&9; else copied+=o; fi
    if [[ $merged ]]; then
        exec 8>&7
    elif reach 2 w; then
        exec 8>&9
    else
        copied+=e
    fi
    exec 9>&-
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

# What a process does for the first time takes it longer: pages that it shares with its parent are copied. So it does all that it
# can once before anybody waits for it.
rehearse() { # [DIR]
    local rehearsal audit=${audit:+/dev/null} copied
    exec {rehearsal}<"$host/rehearsal"
    read_request "$rehearsal" && permitted "$name" "${words[@]}"
    [[ ! ${1-} ]] || connect "$1"
    note started started
    exec {rehearsal}<&-
    why='' name='' cwd='' keep='' merged='' map='' stdin='' token_given='' client='' script='' described=''
    words=() variables=()
}

become() { # DIR: waits for a request, and becomes its command
    local copied request told
    exec {request}<"$1.req" {told}>"$1.told"
    ((asked)) || rehearse "$1"
    until IFS= read -r -n 8 -t 30 _ <&"$go"; do
        kill -s 0 "$main" 2>/dev/null || exit
    done
    if ! kill -s 0 "$main" 2>/dev/null; then
        printf 'fail the server in %s has ended; start it again on the host\n' "$dir" >&"$end"
        exit
    fi
    if ! prepare "$request"; then
        note refused "refused"
        printf 'fail %s\n' "${why//$'\n'/ }" >&"$end"
        exit
    fi
    connect "$1"
    note started "started"
    printf '.%s\n%s\n' "$copied" "$described" >&"$told"
    exec <&6 >&7 2>&8 3>&- 6<&- 7>&- 8>&- {go}>&- {end}>&- {never}<&- {request}<&- {told}>&-
    exec "${path_of[$name]}" "${words[@]+"${words[@]}"}"
}

work() { # NUMBER: has request NUMBER run, and tells how it ended; `go` and `end` are open
    local at=$own/$1 pid watcher status drain errors said='' copied=''
    id=$1
    let_go
    # Opened for both first, then for one: so no open waits for a client that is gone.
    exec 4<>"$at.in" 6<"$at.in" 4<>"$at.out" 7>"$at.out" 4<>"$at.err" 8>"$at.err" || return
    set -m
    become "$at" 4>&- &
    pid=$!
    set +m
    # `out` and `err` may be opened for reading without waiting: 7 and 8 are there.
    watch_fifo "$pid" "$at" 4>&- 6<&- &
    watcher=$!
    disown "$watcher"
    exec 4>&- 6<&- {go}>&-
    # shellcheck disable=SC2064
    trap "end_group $pid" TERM HUP INT
    finish "$pid"
    [[ -s $at.told ]] && IFS= read -r copied <"$at.told"
    if [[ ! $copied ]]; then # it never came to that
        kill -s KILL "$watcher" 2>/dev/null
        return 0
    fi
    # What was printed and not copied yet lies in the pipes, and needs to be read only if there is any.
    if [[ $copied != . ]]; then
        exec {drain}<"$at.out" {errors}<"$at.err"
        read -r -t 0 -u "$drain" && said+=o
        read -r -t 0 -u "$errors" && said+=e
    fi
    exec 7>&- 8>&-
    printf 'exit %s %s\n' "$status" "$said" >&"$end"
    nap .002 # the client's turn: what else is to be done would hold it up where processors are few
    kill -s KILL "$watcher" 2>/dev/null
    [[ -s $at.told ]] && { IFS= read -r _ && IFS= read -r described; } <"$at.told"
    note_again ended "$status"
    return 0
}

# The same with plain files: they grow, and both sides look again and again.
answer_files() { # NUMBER
    local dir=$own/$1 pid watcher status pump='' from request self=$BASHPID
    id=$1
    exec {request}<"$dir.req"
    if ! prepare "$request"; then
        note refused "refused"
        printf 'fail %s\n' "${why//$'\n'/ }" >"$dir.end"
        return
    fi
    case $stdin in
    none) exec {from}</dev/null ;;
    whole) exec {from}<"$dir.in" ;;
    *)
        exec {from}< <(grow "$dir")
        pump=$!
        ;;
    esac
    set -m
    (
        exec <&"$from" >>"$dir.out" 2>>"$dir.err" {from}<&- {never}<&- {request}<&-
        [[ $merged ]] && exec 2>&1
        exec "${path_of[$name]}" "${words[@]+"${words[@]}"}"
    ) &
    pid=$!
    exec {from}<&-
    watch_files "$pid" "$dir" "$self" &
    watcher=$!
    # shellcheck disable=SC2064
    trap "end_group $pid" TERM HUP INT
    set +m
    note started "started"
    finish "$pid"
    printf 'exit %s\n' "$status" >"$dir.end"
    nap .002 # the client's turn
    kill -s KILL "$watcher" ${pump:+"$pump"} 2>/dev/null
    note_again ended "$status"
}

grow() { # DIR: copies the client's stdin while it arrives
    local complete=''
    exec 6<"$1.in"
    while [[ ! $complete ]]; do
        IFS= read -r -n 8 complete <"$1.in.end"
        tool cat <&6 || return
        [[ $complete ]] || nap .01
    done
}

watch_files() { # PGID DIR PID: of the process that waits for the command
    local signal seen='' now since=$SECONDS beat=''
    exec 5<"$2.ctl"
    while :; do
        if [[ $beat != "$SECONDS" ]]; then
            beat=$SECONDS
            printf '%s %s\n' "$beat" "$BASHPID" >"$2.beat"
        fi
        while IFS= read -r -n 64 signal <&5; do pass_on "$signal" "$1"; done
        nap .05
        kill -s 0 "$3" 2>/dev/null || break
        IFS= read -r -n 32 now <"$2.live"
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
        # A signal that comes while it waits says more than that, as does a command that a signal ended.
        ((status > 128)) || break
        kill -s 0 "$1" 2>/dev/null || break
    done
}

# Nobody but the server may hold these: clients that wait for a slot, and the next server, would not see it go.
let_go() { [[ $carrier == files ]] || exec {more}>&- {held}>&-; }

# ---- slots ----

next=1 made=1 running=0 filling='' hearing='' asked=0
free=() pids=() waiting=() gone=() claimed_at=()

make_slots() { # LOW HIGH: the host's own files, and then links to them where clients look
    local n file fifos=() files=()
    for ((n = $1; n <= $2; n++)); do
        for file in $pipes; do fifos+=("$own/$n.$file"); done
        for file in $plain; do
            : >"$own/$n.$file" || return
            files+=("$own/$n.$file")
        done
    done
    ((!${#fifos[@]})) || tool mkfifo -- "${fifos[@]}" || return
    # In the folder that was opened at the start, whatever bears its name now; no link replaces anything.
    [[ ! $guarded ]] || tool ln -- ${fifos[@]+"${fifos[@]}"} "${files[@]}" .
}

publish() { # HIGH: the range in which a client looks for a free slot
    local n low=$1
    for n in "${!free[@]}"; do
        low=$n
        break
    done
    printf '%s %s\n' "$low" "$1" >"$own/head"
}

drop_idle() {
    local n
    for n in "${!free[@]}"; do drop "${free[n]}"; done
    [[ ! $hearing ]] || drop "$hearing"
    for n in "${!ready[@]}"; do drop "${ready[n]}"; done
    ready=()
}

drop() { # PID: of a process that waits; nothing is said of its end
    (($1)) && disown "$1" 2>/dev/null && kill -s TERM "$1" 2>/dev/null
}

# Slots that were claimed and then left: their client died before it asked. Looked at twice, a while apart.
sweep() {
    local n
    for n in "${!free[@]}"; do
        [[ -e $n.claim || -L $n.claim ]] || continue
        claimed_at[n]=${claimed_at[n]-$SECONDS}
        ((SECONDS - claimed_at[n] > 20)) || continue
        [[ " ${waiting[*]-} " == *" $n "* ]] && continue
        drop "${free[n]}"
        unset "free[$n]" "claimed_at[$n]"
        gone+=("$n")
    done
    remove
}

remove() {
    ((${#gone[@]})) || return
    (
        let_go
        local n file names=()
        # The claims last: who can make one while its slot goes would own a slot without files.
        for n in "${gone[@]}"; do
            for file in $pipes $plain told; do names+=("./$n.$file" "$own/$n.$file"); done
            names+=("$host/scripts/$n" "./$n.claim")
        done
        tool rm -rf -- "${names[@]}"
    ) &
    gone=()
}

# ---- the server, with fifos ----

fill() { # more slots, made beside the loop, which hears "filled HIGH"
    [[ $filling ]] && return
    filling=1
    local low=$next high=$((next + 15))
    next=$((high + 1))
    (
        let_go
        if make_slots "$low" "$high"; then printf 'filled %s\n' "$high"; else printf 'unfilled %s\n' "$high"; fi >&3
    ) &
}

# Processes that wait for a request, each at a slot of its own: what a request then costs is one fork.
replenish() { # [MORE]: for as many clients as wait
    local n end go count=0 spare=${#free[@]}
    # Those that have a claim are taken, though it was not said yet.
    ((!${1:-0})) || for n in "${!free[@]}"; do [[ ! -e $n.claim && ! -L $n.claim ]] || spare=$((spare - 1)); done
    while ((spare + count < ${1:-0} + (${1:-0} ? 0 : idle) && ${#free[@]} + running < jobs && worker < made)); do
        n=$worker worker=$((worker + 1)) count=$((count + 1))
        # Held from here on: what a client writes there before all is ready is not lost, and it sees that somebody is there.
        exec {end}<>"$own/$n.end" {go}<>"$own/$n.go"
        (work "$n" && printf 'done %s\n' "$n" >&3) &
        free[n]=$!
        exec {end}>&- {go}>&-
    done
    ((made - worker >= idle)) || fill
    ((!count)) || publish $((worker - 1))
    wake $((spare + count))
}

wake() { # COUNT: so many of those that wait for a slot
    local line=''
    for ((; $1 > 0 && asked > 0; asked--)); do
        line+=$'\n'
        set -- $(($1 - 1))
    done
    # Beside the loop: a container that fills this pipe stops nobody else.
    if [[ $line ]]; then
        {
            exec {held}>&-
            printf %s "$line" >&"$more"
        } &
    fi
}

handle() { # VERB NUMBER: one line that came in
    case $1 in
    taken)
        [[ ${free[$2]-} ]] || return
        pids[$2]=${free[$2]}
        unset "free[$2]" "claimed_at[$2]"
        running=$((running + 1)) due=1
        ((${#free[@]} > 1 && !asked)) || replenish "$asked"
        ;;
    done)
        if [[ ${pids[$2]-} ]]; then
            unset "pids[$2]"
            running=$((running - 1))
        elif [[ ${free[$2]-} ]]; then # over before the other word came
            unset "free[$2]" "claimed_at[$2]"
        else
            return
        fi
        gone+=("$2")
        due=1
        ((${#free[@]} > 1 && !asked)) || replenish "$asked"
        ((${#gone[@]} < 64)) || remove
        ;;
    filled)
        filling='' made=$(($2 + 1))
        replenish "$asked"
        ;;
    unfilled) filling='' made=$next worker=$next ;;
    more)
        asked=$((asked + 1))
        replenish "$asked"
        ;;
    esac
}

# Hears the clients, and says on what only the server's own processes can write to.
hear_clients() {
    local rest='' begun='' ids
    let_go
    exec {ids}<>"$own/reqs"
    while kill -s 0 "$main" 2>/dev/null; do
        if IFS= read -r -n 16 -t 5 rest <&"$ids"; then
            [[ $begun$rest != *more ]] || printf 'more\n' >&3
            begun=
        else
            ((${#begun} < 16)) || begun=
            begun+=$rest # the time can be over in the middle of a line
        fi
    done
}

serve_fifo() {
    local line rest='' begun='' idle due worker
    idle=$((jobs < 8 ? jobs : 8)) due='' worker=$next made=$next
    hear_clients &
    hearing=$!
    make_slots "$next" $((next + 15)) || die "cannot make FIFOs in $root; try --carrier files"
    next=$((next + 16)) made=$next
    replenish
    announce fifo
    while [[ ! $stopping ]]; do
        # What is to be made and removed waits for a moment without requests, so that none waits for it.
        if IFS= read -r -t "${due:+.0}5" rest <&3; then
            line=$begun$rest begun=
            handle "${line%% *}" "${line#* }"
            continue
        fi
        begun+=$rest # the time can be over in the middle of a line
        if [[ $due ]]; then
            due=
            replenish "$asked"
            replenish
            remove
        else
            reap
            sweep
            follow
            ((!asked)) || wake "${#free[@]}"
            replenish "$asked"
        fi
    done
}

# The server in Python that started this one may have been killed: nobody else would end this.
follow() {
    if [[ $with ]] && ! kill -s 0 "$with" 2>/dev/null; then stop; fi
}

# ---- the server, with plain files ----

finished=() looks=0 ready=() orders=()

fill_files() {
    local n
    if [[ ! $filling ]]; then
        make_slots "$next" $((next + 23)) &
        filling=$!
        next=$((next + 24))
    fi
    ((${1:-0})) && wait "$filling"
    kill -s 0 "$filling" 2>/dev/null && return
    wait "$filling" || die "cannot make files in $root"
    filling=
    for ((n = made; n < next; n++)); do free[n]=0; done
    made=$next
    publish $((next - 1))
}

# Opened and read, not looked for: what a network file system remembers of a name may be old.
look() { # whether a request came or ended
    local n word found=1 empty=0
    # The lowest come first; once in a while all are looked at, since a client may have died before its word.
    looks=$(((looks + 1) % 16))
    for n in "${!free[@]}"; do
        word=
        IFS= read -r -n 8 word <"$own/$n.go"
        if [[ ! $word ]]; then
            empty=$((empty + 1))
            ((empty < 4 || !looks)) || break
            continue
        fi
        found=0
        if ((running >= jobs)); then
            [[ " ${waiting[*]-} " == *" $n "* ]] || waiting+=("$n")
            continue
        fi
        begin "$n"
    done
    ((${#free[@]} - ${#waiting[@]} > 8)) && [[ ! $filling ]] || fill_files
    for n in "${!pids[@]}"; do
        found=0
        kill -s 0 "${pids[n]}" 2>/dev/null && continue
        [[ -s $own/$n.end ]] || printf 'fail the process that ran this was killed\n' >"$own/$n.end"
        unset "pids[$n]"
        running=$((running - 1))
        finished[n]=$SECONDS
        if ((${#waiting[@]})); then
            begin "${waiting[0]}"
            waiting=("${waiting[@]:1}")
        fi
    done
    return $found
}

begin() { # NUMBER
    local n
    unset "free[$1]"
    running=$((running + 1))
    for n in "${!ready[@]}"; do
        kill -s 0 "${ready[n]}" 2>/dev/null || continue
        printf '%s\n' "$1" >&"${orders[n]}"
        pids[$1]=${ready[n]}
        unset "ready[$n]"
        return
    done
    answer_files "$1" &
    pids[$1]=$!
}

# Processes that wait for an order, each at a pipe of its own, which the next one has after it: to make one takes longer
# than most commands run.
make_ready() { # [all]: one that is missing, or all
    local n pipe
    for ((n = 0; n < 4 && n < jobs; n++)); do
        kill -s 0 "${ready[n]-none}" 2>/dev/null && continue
        # One that was killed may have had an order: nobody else shall find it.
        if [[ ${ready[n]-} && ${orders[n]-} ]]; then
            pipe=${orders[n]} && exec {pipe}>&-
            unset "orders[$n]"
        fi
        if [[ ! ${orders[n]-} ]]; then
            exec {pipe}<> <(:)
            orders[n]=$pipe
        fi
        answer_order "${orders[n]}" &
        ready[n]=$!
        [[ ${1-} ]] || return
    done
}

answer_order() { # DESCRIPTOR
    local number=''
    rehearse
    until IFS= read -r -t 30 number <&"$1"; do
        kill -s 0 "$main" 2>/dev/null || exit
    done
    answer_files "$number"
}

put_away() { # slots whose client has read the outcome, or never will
    local n word
    for n in "${!finished[@]}"; do
        word=
        IFS= read -r -n 8 word <"$own/$n.bye"
        [[ $word ]] || ((SECONDS - finished[n] > 300)) || continue
        unset "finished[$n]"
        gone+=("$n")
    done
    sweep
}

serve_files() {
    local beats=0 active=$SECONDS told=-1
    beat
    made=$next
    fill_files 1
    make_ready all
    announce files
    while [[ ! $stopping ]]; do
        if look; then active=$SECONDS; else make_ready; fi
        if ((SECONDS != told)); then
            beat
            put_away
            follow
            told=$SECONDS
        fi
        if ((SECONDS - active < 2)); then
            nap .001
        elif ((SECONDS - active < 5)); then
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
    printf '%s\n' "$beats" >"$own/beat"
    [[ $guarded ]] && printf '%s\n' "$beats" >"$host/beat"
}

# ---- the socket alone: this holds the folder for the server in Python, which started it ----

serve_socket() {
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
        kill -s 0 "${pids[n]}" 2>/dev/null || handle "done" "$n"
    done
    for n in "${!free[@]}"; do
        kill -s 0 "${free[n]}" 2>/dev/null && continue
        unset "free[$n]"
        gone+=("$n")
    done
}

# ---- singreqrun's protocol: scripts, which no policy can look into ----

# Whoever can write there runs what they like, so nothing here holds a container. What others have put there, and links to
# elsewhere, are refused all the same: they are looked at first and opened then, which only an accident does not come between.

serve_singreqrun() {
    local ids line
    declare -A seen=()
    let_go
    exec 3>&-
    trap - TERM INT HUP
    tool rm -f -- "$legacy/reqs" "$host/ids"
    # The host has a name of its own for the queue, if the file system lets it.
    if tool mkfifo "$host/ids" && tool ln -- "$host/ids" "$legacy/reqs" 2>/dev/null; then
        exec {ids}<>"$host/ids" # for both: so it never ends, and needs no `tail`
    else
        tool mkfifo "$legacy/reqs" || exit
        exec {ids}<>"$legacy/reqs"
        [[ ! -L $legacy/reqs && -p /dev/fd/$ids ]] || exit
    fi
    while IFS= read -r -n 200 line <&"$ids"; do
        [[ $line =~ ^[A-Za-z0-9_=-]{1,64}$ && -z ${seen[$line]-} && -e $legacy/$line.cmd ]] || continue
        seen[$line]=1
        run_script "$legacy/$line" &
    done
}

ours_alone() { # FILE: it is no link, and this user's
    [[ ! -L $1 && (-f $1 || -p $1) ]] && [[ $any_user || -O $1 ]]
}

streams_ready() { # FILE
    local stream
    [[ -f $1.cmd ]] && ours_alone "$1.cmd" || return
    for stream in stdin stdout stderr; do
        # Where nothing is, a file is made that was not there: what a link points to is not touched.
        if [[ ! -e $1.$stream && ! -L $1.$stream ]]; then
            [[ $stream == stdin ]] || (set -C && : >"$1.$stream") 2>/dev/null || return
        else
            ours_alone "$1.$stream" || return
        fi
    done
}

run_script() { # FILE: runs FILE.cmd; each of its streams is a FIFO or a file that the client made, or nothing
    local file=$1 status=126 pid guard
    id=${file##*/} name=singreqrun cwd=$legacy
    exec {ids}>&-
    if ! streams_ready "$file"; then
        answer_old "$file"
        note refused refused
        return
    fi
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
    answer_old "$file"
    note script "$status"
    nap 300
    tool rm -f -- "$file".{cmd,stdin,stdout,stderr,code}
}

# Under its name it is complete: who sees it can read it. Written on the host's side, and moved: nothing is written into
# what lies there.
answer_old() { # FILE
    printf '%s\n' "$status" >"$host/scripts/$id.code"
    tool mv -f -T -- "$host/scripts/$id.code" "$1.code.new"
    tool mv -f -T -- "$1.code.new" "$1.code"
}

# ---- start and end ----

stop() {
    local n
    stopping=1
    [[ $carrier != files ]] && printf 'stop\n' >&3
    for n in "${!pids[@]}"; do kill -s TERM "${pids[n]}" 2>/dev/null; done
    drop_idle
}

announce() { # CARRIER: the clients may come
    local IFS=, boot='' space known silent mark marked
    { read -r boot </proc/sys/kernel/random/boot_id; } 2>/dev/null
    space=$(tool readlink /proc/self/ns/pid) known=${patterns[*]-} silent=${!quiet[*]} mark="'" marked="'\\''"
    printf 'outrider-bridge 1 %s %s\nenv %s\nquiet %s\n%s %s %s\n' "$1" "$token" "$known" "$silent" "$main" "$boot" "$space" \
        >"$own/server"
    printf "version=1 carrier=%s token=%s\npatterns='%s' quiet='%s'\npid=%s its_boot=%s space='%s'\n" "$1" "$token" \
        "${known//$mark/$marked}" "${silent//$mark/$marked}" "$main" "$boot" "$space" >"$own/known"
    [[ ! $guarded ]] || tool ln -- "$own/known" "$own/server" . || die "cannot write in $root"
    IFS=' '
    printf 'outrider bridge: serving %s in %s to whoever can write there\n' "${!path_of[*]}" "$dir"
    local name
    if [[ ! $guarded ]]; then
        printf 'outrider bridge: %s.host cannot be used: links that a container puts into %s would be followed\n' "$dir" "$dir"
    fi
    [[ $legacy ]] && printf 'outrider bridge: singreqrun is served in %s: who can write there runs anything, as you\n' "$legacy"
    for name in sbatch srun salloc qsub flux; do
        if [[ ${path_of[$name]-} ]]; then
            printf 'outrider bridge: %s runs whatever it is given, on compute nodes, as you: allowing it lets the container out\n' "$name"
        fi
    done
}

alive() { # whether another server holds this folder
    local was now
    if [[ -p $host/held ]]; then
        # Held open for writing by the server alone: without one, reading ends at once.
        exec 4<>"$host/held" 5<"$host/held" 4>&-
        read -r -t .05 _ <&5
        now=$?
        exec 5<&-
        ((now > 128)) && return 0
    fi
    if [[ -f $host/beat ]]; then
        IFS= read -r was <"$host/beat"
        nap 1.5
        IFS= read -r now <"$host/beat"
        [[ $was != "$now" ]] && return 0
    fi
    return 1
}

make_shims() { # D/bin/NAME: what the container has on its PATH
    local name shims=()
    client >"$own/client.sh"
    ((${#path_of[@]})) || return
    tool rm -rf -- "$dir/bin" "$host/bin"
    tool mkdir "$host/bin"
    for name in "${!path_of[@]}"; do
        # Calls need the host's Python; programs in the container that say `python3` mean their own.
        [[ $name == python* ]] && continue
        client >"$host/bin/$name"
        shims+=("$host/bin/$name")
    done
    ((!${#shims[@]})) || tool chmod 0755 "${shims[@]}"
    tool mv -- "$host/bin" "$dir" || die "cannot put the shims into $dir/bin"
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
    dir='' carrier=auto jobs=64 grace=5 audit=default any_user='' lost=30 beats=0 show='' old='' with='' legacy='' stopping=''
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
        --audit) case $2 in /* | none | default) audit=$2 ;; *) audit=$PWD/$2 ;; esac ;;
        --singreqrun) case $2 in /*) legacy=$2 ;; *) legacy=$PWD/$2 ;; esac ;;
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
        [[ -O $legacy ]] || die "$legacy is not yours"
        tool chmod 0700 "$legacy" || die "cannot make $legacy private"
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
    root=$dir/v1 host=$dir.host main=$$
    # A pipe that stays empty, for waiting.
    exec {never}<> <(:)
    for host in "$root/host" "$dir.host"; do
        if alive; then die "another server serves $dir"; fi
    done
    # Beside the folder, where the container cannot reach it.
    [[ $audit == default ]] && audit=$dir.audit.jsonl
    [[ $audit == none ]] && audit=
    [[ -z $audit ]] || { : >>"$audit"; } 2>/dev/null || die "cannot write $audit; --audit FILE says where, --audit none nowhere"
    random_token
    make_folders
    # Numbers start where no earlier server's can have been.
    printf -v next '%(%s)T' -1
    next=$((next * 1000))
    set -m
    trap stop TERM INT HUP
    trap : PIPE # not ignored: commands would inherit that
}

make_folders() { # the host's own beside D, if the file system lets files have names in both; then D/v1
    local probe=.${token:0:12}
    plain='req script' pipes='in out err ctl go end'
    [[ $carrier == files ]] && plain+=' go in in.end out err ctl end live bye beat' pipes=
    own=$host/v1 guarded=1
    tool rm -rf -- "$root"
    if ! {
        tool mkdir -p -m 0700 -- "$host" && [[ ! -L $host && -O $host ]] && clear_host &&
            tool mkdir "$own" "$host/new" "$host/scripts" && : >"$own/head" && tool ln "$own/head" "$dir/$probe"
    } 2>/dev/null; then
        host=$root/host own=$root guarded=
        tool mkdir "$root" "$host" "$host/scripts" || die "cannot write in $dir"
    fi
    tool rm -f -- "$dir/$probe"
    : >"$own/beat"
    tool mkfifo "$own/reqs" "$own/more" "$host/held" "$host/inbox" || [[ $carrier == files ]] || die "cannot make FIFOs in $dir; try --carrier files"
    [[ $carrier == files ]] || exec 3<>"$host/inbox" {more}<>"$own/more" {held}<>"$host/held"
    printf '%s\0' outrider-bridge-1 "token=$token" name=true "cwd=$dir" map= "how=,,,$$" arg=one arg=two arg=three end >"$host/rehearsal"
    make_shims
    if [[ $guarded ]]; then
        { tool cp -rl -- "$own" "$host/new" && cd -- "$host/new/v1" && tool mv -- "$host/new/v1" "$dir"; } || die "cannot write in $dir"
    else
        cd -- "$root" || die "cannot enter $root"
    fi
}

clear_host() { tool rm -rf -- "$host"/{v1,new,rehearsal,scripts,bin,held,inbox,beat,ids}; }

leave() {
    local i
    [[ $old ]] && kill -s TERM -- "-$old" 2>/dev/null
    drop_idle
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
    clear_host
    [[ $guarded ]] && tool rm -d -- "$host"
    exit 0
}

main "$@"
