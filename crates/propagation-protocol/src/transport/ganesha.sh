#!/bin/sh
# Configures an nfs-ganesha in a directory of its own.
#   ganesha.sh DIRECTORY SHARED PORT
# It listens at every address of its container's network: it looks up an address that it is given, and finds none where
# loopback is the only device, as on a simulated node. In a pod whoever reaches the pod's address reaches what is exported.
set -eu
umask 077
directory=$1 shared=$2 port=$3
mkdir -p "$directory/recovery" "$directory/home" /var/run/ganesha
# The mount of a FUSE filesystem that is served is below it.
chmod 711 "$directory"

# The transports of RPC, which it has to find: a container may have no such file.
[ -e /etc/netconfig ] || cat > /etc/netconfig << END
udp tpi_clts v inet udp - -
tcp tpi_cots_ord v inet tcp - -
udp6 tpi_clts v inet6 udp - -
tcp6 tpi_cots_ord v inet6 tcp - -
END

cat > "$directory/ganesha.conf" << END
NFS_CORE_PARAM {
    NFS_Port = $port;
    Protocols = 4;
    Enable_NLM = false;
    Enable_RQUOTA = false;
}
NFSv4 {
    Minor_Versions = 1, 2;
    RecoveryBackend = fs;
    RecoveryRoot = $directory/recovery;
    Lease_Lifetime = 5;
    Grace_Period = 5;
    Only_Numeric_Owners = true;
}
EXPORT {
    Export_Id = 1;
    Path = $shared;
    Pseudo = /data;
    Access_Type = RW;
    Squash = No_Root_Squash;
    SecType = sys;
    Protocols = 4;
    Transports = TCP;
    FSAL { Name = VFS; }
}
END
