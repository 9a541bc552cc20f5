# A directory of automount: it mounts on demand in its own namespace. In a copy of that namespace that gets no mounts the
# trigger is never answered with one, and fails (ELOOP; EPERM with Linux 7.3); in a slave it is answered.
mkdir -p /auto /srv/real
[ -e /var/run ] || ln -s /run /var/run
echo "user data" > /srv/real/file
echo "/auto /etc/auto.map" > /etc/auto.master
echo "* -fstype=bind :/srv/real" > /etc/auto.map
: > /etc/autofs.conf
# It wants a process group, which what begins with the machine has not.
expect 0 setsid automount /etc/auto.master
expect 0 cat /auto/node/file
expect 0 unshare --mount --propagation slave cat /auto/slave/file
expect 1 unshare --mount --propagation private cat /auto/private/file
grep -qE "Too many levels of symbolic links|Operation not permitted" /tmp/said || says "an error of the trigger"
expect 1 unshare --mount --propagation private $PROPAGATION probe /auto/probed
grep -qE "ELOOP|EPERM" /tmp/said || says "an error of the trigger"
kill "$(pidof automount)"
