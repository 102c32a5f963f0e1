#!/bin/sh
# What the engine is measured against: the same three unprivileged containers on a bridge, started side by side by a
# plain script that undoes nothing and watches nothing. They have the ids that the layer is stored with. Arguments: a layer's tree, a scratch folder.
# Prints two times in nanoseconds: until a program has run in each container, and until all are stopped.
set -eu
LAYER=$1 WORK=$2
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
mount -t tmpfs -o mode=755 plain "$WORK"
# LXC looks for the bridge in /sys, which must be this network namespace's; not part of the time.
mkdir "$WORK/cgroup"
mount --rbind /sys/fs/cgroup "$WORK/cgroup"
mount -t sysfs sysfs /sys
mount --rbind "$WORK/cgroup" /sys/fs/cgroup
begun=$(date +%s%N)
ip -batch - <<END
link set lo up
link add br0 type bridge forward_delay 0
address add 10.77.0.1/24 dev br0
link set br0 up
END
octet=10
for name in a b c; do
    octet=$((octet + 1))
    dir=$WORK/$name
    mkdir -p "$dir/upper" "$dir/work" "$dir/root" "$WORK/lxc/plain-$name"
    chown 1879048192:1879048192 "$dir/upper" "$dir/work"
    mount -t overlay -o "lowerdir=$LAYER,upperdir=$dir/upper,workdir=$dir/work" overlay "$dir/root"
    cat > "$WORK/lxc/plain-$name/config" <<END
lxc.uts.name = $name
lxc.rootfs.path = dir:$dir/root
lxc.idmap = u 0 1879048192 65536
lxc.idmap = g 0 1879048192 65536
lxc.cgroup.dir = plain-bench/$name
lxc.net.0.type = veth
lxc.net.0.link = br0
lxc.net.0.flags = up
lxc.net.0.ipv4.address = 10.77.0.$octet/24
lxc.net.0.ipv4.gateway = 10.77.0.1
lxc.mount.auto = proc:mixed sys:mixed cgroup:mixed
lxc.init.cmd = /bin/busybox init
lxc.log.file = $dir/lxc.log
END
    PATH=/usr/sbin:/sbin /usr/bin/lxc-start -P "$WORK/lxc" -F -n "plain-$name" > "$dir/start.log" 2>&1 &
done
for name in a b c; do
    (
        tries=0
        until lxc-attach --quiet -P "$WORK/lxc" -n "plain-$name" -- /bin/true 2> /dev/null; do
            tries=$((tries + 1))
            if [ "$tries" -gt 500 ]; then cat "$WORK/$name/lxc.log" "$WORK/$name/start.log" >&2; exit 1; fi
        done
    ) &
    eval "waiter_$name=$!"
done
wait "$waiter_a"; wait "$waiter_b"; wait "$waiter_c"
ready=$(date +%s%N)
for name in a b c; do lxc-stop -P "$WORK/lxc" -k -n "plain-$name" & done
wait
down=$(date +%s%N)
echo "$((ready - begun)) $((down - begun))"
