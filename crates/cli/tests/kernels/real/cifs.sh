# A FUSE mount that smbd exports and the kernel's CIFS client mounts. While the daemon is dead, the client's root is EACCES,
# and the data of a file may still come from its cache. After a new FUSE mount the same CIFS mount is fresh, with nothing
# mounted again on the client, if the client makes up its own inode numbers (noserverino, as the SMB CSI driver mounts);
# with the server's its root is ESTALE for good. Nor is anything mounted again after the server itself was killed: a soft
# mount fails late, and is fresh when there is a server again.
mkdir -p /srv/data /srv/fuse /mnt/cifs /mnt/cached /tmp/smb/ncalrpc /var/log/samba
echo first > /srv/data/marker
bindfs -f /srv/data /srv/fuse &
daemon=$!
cat > /tmp/smb.conf <<'CONF'
[global]
    server role = standalone server
    interfaces = 127.0.0.1/8
    bind interfaces only = yes
    smb ports = 445
    disable netbios = yes
    server min protocol = SMB3
    passdb backend = smbpasswd:/tmp/smb/smbpasswd
    pid directory = /tmp/smb
    lock directory = /tmp/smb
    state directory = /tmp/smb
    cache directory = /tmp/smb
    private dir = /tmp/smb
    ncalrpc dir = /tmp/smb/ncalrpc
    log file = /tmp/smb/log
    load printers = no
    disable spoolss = yes
[fuse]
    path = /srv/fuse
    read only = no
    valid users = root
CONF

within mountpoint -q /srv/fuse
printf 'secret\nsecret\n' | expect 0 smbpasswd -c /tmp/smb.conf -s -a root || exit 1
serve() { smbd --daemon --configfile /tmp/smb.conf; }
expect 0 serve
within /usr/bin/mount -t cifs //127.0.0.1/fuse /mnt/cifs \
    -o username=root,password=secret,vers=3.1.1,soft,echo_interval=4,actimeo=0,noserverino
expect 0 cat /mnt/cifs/marker
says first
# As `propagation compare` mounts it: the client keeps attributes for a second.
within /usr/bin/mount -t cifs //127.0.0.1/fuse /mnt/cached -o username=root,password=secret,vers=3.1.1,noserverino
expect 0 cat /mnt/cached/marker
says first
expect 0 $PROPAGATION probe /mnt/cifs
says "its type is cifs"

kill -9 "$daemon"
expect 1 $PROPAGATION probe /mnt/cifs --timeout 60s
says "EACCES"
says "the server denies it"

echo second > /srv/data/marker
umount -l /srv/fuse
expect 0 bindfs /srv/data /srv/fuse
within grep -q second /mnt/cifs/marker
within $PROPAGATION probe /mnt/cifs
within grep -q second /mnt/cached/marker
umount /mnt/cached
echo "fresh after the FUSE mount was made again"

# It has a process for each client.
# shellcheck disable=SC2046
kill -9 $(pidof smbd)
refused $PROPAGATION probe /mnt/cifs --timeout 60s
grep -E "EHOSTDOWN|EAGAIN|EIO|ECONNABORTED|ENOTCONN" /tmp/said || says "an error of the dead server"
expect 0 serve
within $PROPAGATION probe /mnt/cifs
within grep -q second /mnt/cifs/marker
umount /mnt/cifs
kill -9 $(pidof smbd)
umount -l /srv/fuse
