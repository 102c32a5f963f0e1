//! The lab's network: a bridge in a namespace of its own, and a card for each container, put there by a hook before
//! the container's init runs.

use std::path::Path;

use super::config::Places;
use super::machine::Machine;
use crate::host::shell::{quote, which};
use crate::manifest::Network;
use crate::program;

/// The bridge that joins a lab's containers, in its namespace.
pub const BRIDGE: &str = "br0";

/// Lines for `ip -batch` that make the bridge. It knows the machines' hardware addresses from the start: a question for
/// one that is not up yet would be repeated only after a second.
pub fn bridge_lines(network: Network, machines: &[Machine]) -> String {
    let mut lines = format!(
        "link set lo up\n\
         link add {BRIDGE} address 02:e2:e0:00:00:01 type bridge forward_delay 0\n\
         address add {}/{} dev {BRIDGE}\n\
         link set {BRIDGE} up\n",
        network.gateway(),
        Network::PREFIX_BITS
    );
    for machine in machines {
        lines.push_str(&format!(
            "neigh add {} lladdr {} nud permanent dev {BRIDGE}\n",
            machine.address(),
            machine.mac()
        ));
    }
    lines
}

/// The script that LXC runs in the host's namespaces, with `LXC_PID` set, before a container's init starts.
pub fn start_hook(machine: &Machine, places: &Places, namespace: &Path) -> anyhow::Result<String> {
    let tool = |name: &str| {
        let path = which(name)
            .ok_or_else(|| anyhow::anyhow!("{name} is not installed: `{} setup` installs it", program::name()))?;
        anyhow::Ok(quote(&path.display().to_string()))
    };
    let (ip, nsenter) = (tool("ip")?, tool("nsenter")?);
    Ok(format!(
        "#!/bin/sh\n\
         # Gives {name} its network card: one end on the lab's bridge, the other in the container.\n\
         set -e\n\
         if [ -e {pid} ]; then # not the first start: the port may still be there\n\
         {nsenter} --net={namespace} {ip} link delete {port} 2>/dev/null || true\n\
         fi\n\
         echo \"$LXC_PID\" > {pid}\n\
         echo >> {starts}\n\
         {nsenter} --net={namespace} {ip} -batch - <<END\n\
         link add {port} master {BRIDGE} type veth peer name eth0 address {mac} netns $LXC_PID\n\
         link set {port} up\n\
         END\n\
         {nsenter} --net=/proc/$LXC_PID/ns/net {ip} -batch - <<END\n\
         link set lo up\n\
         address add {address}/{prefix} dev eth0\n\
         link set eth0 up\n\
         route add default via {gateway}\n\
         END\n",
        name = machine.name,
        pid = quote(&places.init_pid().display().to_string()),
        starts = quote(&places.starts().display().to_string()),
        namespace = namespace.display(),
        port = machine.port(),
        mac = machine.mac(),
        address = machine.address(),
        prefix = Network::PREFIX_BITS,
        gateway = machine.network.gateway(),
    ))
}

/// The /etc/hosts of every container of a lab.
pub fn hosts_file(machines: &[Machine]) -> String {
    let mut text = String::from("127.0.0.1 localhost\n::1 localhost\n");
    for machine in machines {
        text.push_str(&format!("{} {}\n", machine.address(), machine.name));
    }
    text
}
