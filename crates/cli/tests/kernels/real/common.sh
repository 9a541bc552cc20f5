# What the scripts beside this one share; each runs in a guest of its own kernel, as root.
export XDG_STATE_HOME=/tmp/state PROPAGATION=/tmp/propagation
cp /work/propagation $PROPAGATION
mkdir -p /tmp/state

# expect STATUS COMMAND...: what it says is in /tmp/said; ends with it when it ends otherwise.
expect() {
    want=$1
    shift
    "$@" > /tmp/said 2>&1
    got=$?
    [ "$got" = "$want" ] && return
    echo "ended with $got and not with $want: $*"
    cat /tmp/said
    exit 1
}

# refused COMMAND...: what it says is in /tmp/said; ends with it when it ends well.
refused() {
    "$@" > /tmp/said 2>&1 || return 0
    echo "ended well: $*"
    cat /tmp/said
    exit 1
}

# says TEXT: what was said last has it.
says() {
    grep -qF "$1" /tmp/said && return
    echo "\"$1\" is not in what was said:"
    cat /tmp/said
    exit 1
}

# within COMMAND...: again and again, for three minutes: a machine that is emulated beside other work is slow.
within() {
    read -r now _ < /proc/uptime
    end=$((${now%.*} + 180))
    until "$@" > /tmp/said 2>&1; do
        read -r now _ < /proc/uptime
        if [ "${now%.*}" -ge "$end" ]; then
            echo "not within three minutes: $*"
            cat /tmp/said
            exit 1
        fi
        sleep 0.2
    done
}
