#!/bin/sh
# Configures an smbd and its clients in a directory of its own, with a password that nobody else knows.
#   samba.sh DIRECTORY SHARED ADDRESS [wrong]
# With a fourth word the clients get another password than the server.
set -eu
umask 077
directory=$1 shared=$2 address=$3
mkdir -p "$directory/state" "$directory/home/.smb"
# The share is for every user of the mount; what is secret lies below.
chmod 711 "$directory"
random() { od -An -N16 -tx1 /dev/urandom | tr -d ' \n'; }
password=$(random)

cat > "$directory/smb.conf" << END
[global]
    server role = standalone server
    interfaces = $address/8
    bind interfaces only = yes
    smb ports = 445
    disable netbios = yes
    server min protocol = SMB3
    map to guest = never
    passdb backend = smbpasswd:$directory/state/smbpasswd
    pid directory = $directory/state
    lock directory = $directory/state
    state directory = $directory/state
    cache directory = $directory/state
    private dir = $directory/state
    ncalrpc dir = $directory/state/ncalrpc
    log file = $directory/state/log
    load printers = no
    printing = bsd
    printcap name = /dev/null
    disable spoolss = yes
[data]
    path = $shared
    read only = no
    valid users = root
END
printf '%s\n%s\n' "$password" "$password" | smbpasswd -c "$directory/smb.conf" -s -a root > /dev/null 2>&1

[ "$#" -lt 4 ] || password=$(random)
printf '%s' "$password" > "$directory/home/password"
if command -v rclone > /dev/null; then
    cat > "$directory/home/rclone.conf" << END
[smb]
type = smb
host = $address
user = root
pass = $(printf '%s' "$password" | rclone obscure -)
END
fi
cat > "$directory/home/.smb/smbnetfs.conf" << END
auth "root" "$password"
END
cat > "$directory/home/.smb/smb.conf" << END
[global]
    client min protocol = SMB3
    disable netbios = yes
END
