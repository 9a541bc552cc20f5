#!/bin/busybox sh
# What a guest does for one user: the five phases, the experiments of a run that needs a change, the scenario library, and
# once more by themselves, with more patience, the scenarios that came out otherwise: an emulated processor is
# slow. Its results are files in the directory that it shares with the machine.
who=$(cat /work/who)
export XDG_STATE_HOME=/tmp/state
chmod 666 /dev/fuse
cp /work/propagation /tmp/propagation
mkdir -p /tmp/home /tmp/state
chown 54321:54321 /tmp/home
chmod 1777 /tmp/state

as() {
    case $who in
        root) "$@" ;;
        user) /usr/bin/setpriv --reuid 54321 --regid 54321 --clear-groups env HOME=/tmp/home "$@" ;;
    esac
}

# run NAME OPTION...: NAME.json is what it gave, NAME.err what it said, NAME.seconds how long it took.
run() {
    name=$1
    shift
    read -r before _ < /proc/uptime
    as /tmp/propagation run "$@" --format json > "/work/$name.json" 2> "/work/$name.err"
    read -r after _ < /proc/uptime
    echo $((${after%.*} - ${before%.*})) > "/work/$name.seconds"
}

# The names of the scenarios that came out otherwise in the JSON of a run.
otherwise() {
    awk '
        function word() { return substr($2, 2, length($2) - ($2 ~ /,$/ ? 3 : 2)) }
        /^    "name"/ { name = word() }
        /^    "error"/ { print name }
        /^      "verdict"/ { in_verdict = 1 }
        in_verdict && /^        "outcome"/ {
            if (word() !~ /^(as_expected|full_success|skipped)$/) print name
            in_verdict = 0
        }
    ' "$1"
}

run phases
run help --volume mountpoint --experiments 2m
run library --scenario /work/scenarios --patience 3 --jobs 4
mkdir /tmp/again
otherwise /work/library.json | while read -r name; do
    cp "/work/scenarios/$name.yaml" /tmp/again/
done
[ -z "$(ls /tmp/again)" ] || run again --scenario /tmp/again --patience 6 --jobs 1
