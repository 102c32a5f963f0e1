//! Network of a lab: a bridge in a namespace of its own, and a network card for each container, installed by a hook before the container's
//! init runs.

use std::path::Path;

use super::config::Places;
use super::machine::Machine;
use crate::host::exec::shell::which;
use crate::host::network::port_lock::{BRIDGE_MAC, Port};
use crate::host::syntax::{HostName, Hosts, IpBatch, Shell, ShellWord, Text, compose};
use crate::manifest::Network;
use crate::program;

/// Name of the bridge that connects a lab's containers.
pub const BRIDGE: &str = "br0";

/// Size of `lxc.log` in bytes above which a restart of its machine shortens it: LXC writes some 6,500 bytes at each start.
pub const LXC_LOG_BYTES_MAX: u64 = 4 << 20;

/// Bytes at the end of `lxc.log` that are kept when it is shortened.
const LXC_LOG_BYTES_KEPT: u64 = 1 << 20;

/// Composes the lines for `ip -batch` that create the bridge. The bridge knows the machines' hardware addresses from the start: otherwise a
/// request for the address of a machine that is not up yet would be repeated only after a second.
pub fn bridge_lines(network: Network, machines: &[Machine]) -> Text<IpBatch> {
    let bridge = compose!(
        IpBatch,
        "link set lo up\n\
         link add {bridge} address {mac} type bridge forward_delay 0 no_linklocal_learn 1\n\
         address add {gateway}/{prefix} dev {bridge}\n\
         link set {bridge} up\n",
        bridge = BRIDGE,
        mac = BRIDGE_MAC,
        gateway = network.gateway(),
        prefix = Network::PREFIX_BITS,
    );
    let neighbor = |machine: &Machine| {
        compose!(
            IpBatch,
            "neigh add {address} lladdr {mac} nud permanent dev {bridge}\n",
            address = machine.address(),
            mac = machine.mac(),
            bridge = BRIDGE,
        )
    };
    bridge + machines.iter().map(neighbor).collect::<Text<IpBatch>>()
}

/// Returns a machine's port on the bridge, with the addresses that it is locked to.
pub fn port(machine: &Machine) -> Port {
    Port { device: machine.port(), mac: machine.mac(), address: machine.address() }
}

/// Composes the script that LXC runs in the host's namespaces, with `LXC_PID` set, before a container's init starts.
pub fn start_hook(machine: &Machine, places: &Places, namespace: &Path) -> anyhow::Result<Text<Shell>> {
    let tool = |name: &str| {
        let path = which(name)
            .ok_or_else(|| anyhow::anyhow!("{name} is not installed: `{} setup` installs it", program::name()))?;
        anyhow::Ok(ShellWord::path(&path)?)
    };
    Ok(compose!(
        Shell,
        "#!/bin/sh\n\
         # Gives {name} its network card: one end on the lab's bridge, the other in the container.\n\
         set -e\n\
         umask 077 # other users may pass through the folders\n\
         if [ -e {pid} ]; then # not the first start: the port may still be there\n\
         {nsenter} --net={namespace} {ip} link delete {port} 2>/dev/null || true\n\
         if [ \"$({wc} -c < {log})\" -gt {log_bytes_max} ]; then # lxc-start writes nothing until this script has ended\n\
         {tail} -c {log_bytes_kept} {log} > {log}.cut\n\
         echo '[cut] INFO earlier lines of this log are not kept' > {log}\n\
         {tail} -c {log_bytes_kept} {log}.cut >> {log}\n\
         {rm} {log}.cut\n\
         fi\n\
         fi\n\
         echo \"$LXC_PID\" > {pid}\n\
         echo >> {starts}\n\
         {nsenter} --net={namespace} {ip} -batch - <<END\n\
         link add {port} master {bridge} type veth peer name eth0 address {mac} netns $LXC_PID\n\
         link set {port} up\n\
         END\n\
         {nsenter} --net=/proc/$LXC_PID/ns/net {ip} -batch - <<END\n\
         link set lo up\n\
         address add {address}/{prefix} dev eth0\n\
         link set eth0 up\n\
         route add default via {gateway}\n\
         END\n",
        name = HostName::new(&machine.name)?,
        pid = ShellWord::path(&places.init_pid())?,
        starts = ShellWord::path(&places.starts())?,
        namespace = ShellWord::path(namespace)?,
        nsenter = tool("nsenter")?,
        ip = tool("ip")?,
        log = ShellWord::path(&machine.log_dir().join("lxc.log"))?,
        log_bytes_max = LXC_LOG_BYTES_MAX,
        log_bytes_kept = LXC_LOG_BYTES_KEPT,
        wc = tool("wc")?,
        tail = tool("tail")?,
        rm = tool("rm")?,
        port = machine.port(),
        bridge = BRIDGE,
        mac = machine.mac(),
        address = machine.address(),
        prefix = Network::PREFIX_BITS,
        gateway = machine.network.gateway(),
    ))
}

/// Composes the /etc/hosts of every container of a lab.
pub fn hosts_file(machines: &[Machine]) -> anyhow::Result<Text<Hosts>> {
    let own = compose!(Hosts, "127.0.0.1 localhost\n::1 localhost\n");
    let line = |machine: &Machine| {
        let name = HostName::new(&machine.name)?;
        anyhow::Ok(compose!(Hosts, "{address} {name}\n", address = machine.address(), name = name))
    };
    Ok(own + machines.iter().map(line).collect::<anyhow::Result<Text<Hosts>>>()?)
}
