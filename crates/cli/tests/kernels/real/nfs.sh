# A FUSE mount that nfs-ganesha exports and the kernel's NFS client mounts. With the server dead, a
# soft mount waits for its timeout (EIO); the server's return makes the same mount answer. With the FUSE daemon dead, what the
# server and the client have cached is still read, and nothing can be written.
mkdir -p /srv/nfs-data /srv/nfs-fuse /mnt/nfs /tmp/ganesha/recovery /var/run/ganesha
echo first > /srv/nfs-data/marker
bindfs -f /srv/nfs-data /srv/nfs-fuse &
daemon=$!
within mountpoint -q /srv/nfs-fuse
cat > /tmp/ganesha/ganesha.conf <<'CONF'
NFS_CORE_PARAM { NFS_Port = 2049; Protocols = 4; Enable_NLM = false; Enable_RQUOTA = false; }
NFSv4 {
    Minor_Versions = 1, 2; RecoveryBackend = fs; RecoveryRoot = /tmp/ganesha/recovery;
    Lease_Lifetime = 5; Grace_Period = 5; Only_Numeric_Owners = true;
}
EXPORT {
    Export_Id = 1; Path = /srv/nfs-fuse; Pseudo = /data; Access_Type = RW; Squash = No_Root_Squash; SecType = sys;
    Protocols = 4; Transports = TCP; Filesystem_Id = 1.1;
    FSAL { Name = VFS; }
}
CONF
serve() {
    ganesha.nfsd -L /tmp/ganesha/log -f /tmp/ganesha/ganesha.conf -p /tmp/ganesha/pid -N WARN
}
trap '[ $? = 0 ] || grep -v SetComponentLogLevel /tmp/ganesha/log' EXIT
expect 0 serve
within /usr/bin/mount -i -t nfs4 127.0.0.1:/data /mnt/nfs \
    -o addr=127.0.0.1,clientaddr=127.0.0.1,vers=4.1,proto=tcp,port=2049,sec=sys,soft,timeo=20,retrans=1,actimeo=0
expect 0 cat /mnt/nfs/marker
says first
expect 0 $PROPAGATION probe /mnt/nfs
says "its type is nfs4"

kill -9 "$(cat /tmp/ganesha/pid)"
refused $PROPAGATION probe /mnt/nfs --timeout 60s
says "EIO"
expect 0 serve
within $PROPAGATION probe /mnt/nfs
within grep -q first /mnt/nfs/marker

kill -9 "$daemon"
refused sh -c "echo new > /mnt/nfs/new"
says "Remote I/O error"
umount -l /mnt/nfs
kill -9 "$(cat /tmp/ganesha/pid)"
umount -l /srv/nfs-fuse
