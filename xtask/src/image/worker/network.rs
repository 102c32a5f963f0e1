//! Network of a build, separate from the host's loopback and abstract sockets. slirp4netns connects it to the outside; it has the rights of
//! an ordinary user of the host.

use std::fs;
use std::io::{Read as _, Seek as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use super::sandbox::{Log, PROXIES};
use crate::host::disk::mount;
use crate::host::exec::shell;
use crate::host::network::forward::{Forward, Target};
use crate::host::network::netns::NetworkNamespace;
use crate::host::patience::Deadline;
use crate::host::syntax::compose;

/// Name of the program that connects the network of a build to the host's.
const PROGRAM: &str = "slirp4netns";

/// Device by which slirp4netns exchanges packets with the build's network.
pub const TUN: &str = "/dev/net/tun";

/// Network device inside a build.
const DEVICE: &str = "tap0";

/// Name server inside the network of a build; it forwards to the host's name servers.
const NAME_SERVER: &str = "10.0.2.3";

/// Blocked link-local addresses, where clouds hand out a machine's credentials to every program that runs on it.
const CLOSED: &str = "169.254.0.0/16";

/// Deadline until a build has a route through the host's network.
const DEADLINE: Deadline = Deadline::from_secs(20);

/// Interval between two checks whether a build has its route.
const POLL: Duration = Duration::from_millis(5);

#[derive(Debug)]
pub struct Network {
    namespace: NetworkNamespace,
    has_way_out: bool,
    /// File that replaces the host's /etc/resolv.conf for the build.
    resolver: Option<PathBuf>,
}

impl Network {
    /// Makes the network of a build, connected to the host's if slirp4netns and its device are there. To be called in the host's network
    /// and mount namespace.
    pub fn open(log: &Log) -> anyhow::Result<Self> {
        let namespace = NetworkNamespace::make()?;
        namespace.ip_batch(&compose!(IpBatch, "link set lo up\n"))?;
        let Some(program) = shell::which(PROGRAM).filter(|_| Path::new(TUN).exists()) else {
            let missing = if Path::new(TUN).exists() { PROGRAM } else { TUN };
            writeln!(log.file()?, "{missing} is missing: the programs of this build have no network")?;
            return Ok(Self { namespace, has_way_out: false, resolver: None });
        };
        let words = ["--configure", "--mtu=65520", "--disable-host-loopback", "--enable-sandbox", "--enable-seccomp"];
        let mut argv = vec![program.display().to_string()];
        argv.extend(words.map(str::to_owned));
        argv.extend(["--netns-type=path".to_owned(), namespace.path().display().to_string(), DEVICE.to_owned()]);
        let mut said = tempfile::tempfile().context("making a file for the output of slirp4netns")?;
        shell::spawn_bound(&argv, &[], said.try_clone()?, None, None).with_context(|| format!("starting {PROGRAM}"))?;
        let begun = Instant::now();
        while !namespace.inside(has_route)? {
            if begun.elapsed() > DEADLINE.scaled() {
                let mut text = String::new();
                said.rewind()?;
                said.read_to_string(&mut text)?;
                bail!("{PROGRAM} has not connected the build to a network within {DEADLINE}: {text}");
            }
            std::thread::sleep(POLL); // a route in another network gives no sign that could be waited for
        }
        namespace.ip_batch(&compose!(IpBatch, "route add blackhole {closed}\n", closed = CLOSED))?;
        let network = Self { namespace, has_way_out: true, resolver: None };
        for address in proxies_on_loopback(PROXIES.iter().filter_map(|name| std::env::var(name).ok())) {
            network.lead_to(address, log)?;
        }
        Ok(network)
    }

    /// Moves the calling process, and all processes that it starts later, into the network. To be called after the process has left the
    /// host's mount namespace, because the network's own name server replaces that in /etc/resolv.conf.
    pub fn enter(&mut self, folder: &Path) -> anyhow::Result<()> {
        if self.has_way_out {
            let host = fs::canonicalize("/etc/resolv.conf").context("looking for /etc/resolv.conf")?;
            let own = folder.join("resolv.conf");
            let text = resolver(&fs::read_to_string(&host).unwrap_or_default());
            fs::write(&own, text).with_context(|| format!("writing {}", own.display()))?;
            fs::set_permissions(&own, std::os::unix::fs::PermissionsExt::from_mode(0o644))?;
            mount::bind(&own, &host)?;
            self.resolver = Some(own);
        }
        self.namespace.enter()
    }

    /// Removes the file that [`Network::enter`] wrote. Names cannot be resolved afterwards.
    pub fn clear(&self) -> anyhow::Result<()> {
        let Some(own) = &self.resolver else { return Ok(()) };
        fs::remove_file(own).with_context(|| format!("removing {}", own.display()))
    }

    /// Forwards a loopback port of this network to the same loopback port of the host: that of a proxy named in the environment.
    fn lead_to(&self, address: SocketAddr, log: &Log) -> anyhow::Result<()> {
        let forward = self.namespace.inside(|| Forward::listen(Some(address.port())))??;
        let host = NetworkNamespace::open(Path::new("/proc/self/ns/net"))?;
        let (target, file) = (Arc::new(Target { network: host, address }), log.file()?);
        let tell: Arc<dyn Fn(String) + Send + Sync> = Arc::new(move |text| drop(writeln!(&file, "{text}")));
        std::thread::Builder::new().name("proxy".into()).spawn(move || forward.serve(&target, &|| true, &tell))?;
        Ok(())
    }
}

/// Tells whether the calling thread's network has a default route.
fn has_route() -> bool {
    let table = fs::read_to_string("/proc/thread-self/net/route").unwrap_or_default();
    table.lines().any(|line| line.starts_with(DEVICE) && line.split_whitespace().nth(1) == Some("00000000"))
}

/// Composes a build's /etc/resolv.conf: the host's, with the name server of the build's network.
fn resolver(host: &str) -> String {
    let kept = host.lines().filter(|line| ["search", "domain", "options"].iter().any(|word| line.starts_with(word)));
    kept.chain([format!("nameserver {NAME_SERVER}").as_str()]).map(|line| format!("{line}\n")).collect()
}

/// Returns the addresses of proxies on this host's loopback, each once.
fn proxies_on_loopback(values: impl Iterator<Item = String>) -> Vec<SocketAddr> {
    let mut found = Vec::new();
    for value in values {
        let rest = value.split_once("://").map_or(value.as_str(), |(_, rest)| rest);
        let authority = rest.split('/').next().unwrap_or_default();
        let place = authority.rsplit_once('@').map_or(authority, |(_, place)| place);
        let Some((host, port)) = place.rsplit_once(':') else { continue };
        if ["localhost", "127.0.0.1"].contains(&host) {
            let address = port.parse().ok().map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
            found.extend(address.filter(|address| !found.contains(address)));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_proxies_on_the_loopback_are_led_to() {
        let values = [
            "http://127.0.0.1:3128",
            "http://user:p@ss@localhost:3128/",
            "127.0.0.1:8080",
            "http://[::1]:3129",
            "http://127.0.0.2:3129",
            "http://proxy.example:3128",
            "http://10.0.0.1:3128",
            "localhost,127.0.0.1",
            "http://127.0.0.1",
        ];
        let found = proxies_on_loopback(values.into_iter().map(str::to_owned));
        let shown: Vec<String> = found.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["127.0.0.1:3128", "127.0.0.1:8080"]);
    }

    #[test]
    fn names_are_resolved_by_the_networks_own_server() {
        let host = "# by a daemon\nnameserver 127.0.0.53\nsearch example.org\noptions edns0\nnameserver ::1\n";
        assert_eq!(resolver(host), "search example.org\noptions edns0\nnameserver 10.0.2.3\n");
    }
}
