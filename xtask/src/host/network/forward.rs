//! Forwarding of a port of this host's loopback to an address in another network namespace.

use std::io;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::netns::NetworkNamespace;
use crate::error::Error;
use crate::host::patience::Deadline;

/// Deadline for the target to accept a connection.
const CONNECT_DEADLINE: Deadline = Deadline::from_secs(10);

/// Interval at which [`Forward::serve`] checks whether to go on.
const POLL: Duration = Duration::from_millis(200);

/// Maximum number of connections at once; a further one is closed.
const CONNECTIONS_MAX: usize = 1000;

/// Port of this host's loopback at which connections are accepted; no other machine reaches it.
#[derive(Debug)]
pub struct Forward {
    listener: TcpListener,
}

/// Address in a network namespace to which connections are forwarded.
#[derive(Debug)]
pub struct Target {
    pub network: NetworkNamespace,
    /// Address in the namespace.
    pub address: SocketAddr,
}

impl Forward {
    /// Listens at the given port, or at a free one.
    ///
    /// # Errors
    /// [`Error::Host`] when another program listens at the port.
    pub fn listen(port: Option<u16>) -> anyhow::Result<Self> {
        match TcpListener::bind((Ipv4Addr::LOCALHOST, port.unwrap_or(0))) {
            Ok(listener) => {
                listener.set_nonblocking(true)?;
                Ok(Self { listener })
            }
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => Err(Error::Host {
                problem: format!("another program listens at port {} of this host", port.unwrap_or(0)),
                help: "choose another port with --port N, or leave --port out to get a free one".into(),
            }
            .into()),
            Err(error) => Err(error).context("listening at this host's loopback"),
        }
    }

    /// Returns the address of this port.
    pub fn address(&self) -> anyhow::Result<SocketAddr> {
        self.listener.local_addr().context("asking for the address of a socket")
    }

    /// Forwards connections, concurrently, as long as `goes_on` returns true. A connection that fails, as when the target refuses it, is
    /// closed, and `tell` is called with the reason.
    pub fn serve(
        &self,
        target: &Arc<Target>,
        goes_on: &dyn Fn() -> bool,
        tell: &Arc<dyn Fn(String) + Send + Sync>,
    ) -> anyhow::Result<()> {
        let open = Arc::new(AtomicUsize::new(0));
        while goes_on() {
            let mut fds = [PollFd::new(self.listener.as_fd(), PollFlags::POLLIN)];
            match poll(&mut fds, PollTimeout::try_from(POLL).unwrap_or(PollTimeout::ZERO)) {
                Ok(0) | Err(Errno::EINTR) => continue,
                Ok(_) => {}
                Err(error) => return Err(error).context("waiting for connections"),
            }
            let stream = match self.listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if is_passing(&error) => continue,
                Err(error) => return Err(error).context("accepting a connection"),
            };
            if open.fetch_add(1, Ordering::SeqCst) >= CONNECTIONS_MAX {
                open.fetch_sub(1, Ordering::SeqCst);
                tell(format!("more than {CONNECTIONS_MAX} connections at once: one was closed"));
                continue;
            }
            let (target, tell, open) = (Arc::clone(target), Arc::clone(tell), Arc::clone(&open));
            std::thread::Builder::new().name("forward".into()).spawn(move || {
                if let Err(error) = hand_on(&stream, &target) {
                    tell(format!("{}: {error}", target.address));
                }
                open.fetch_sub(1, Ordering::SeqCst);
            })?;
        }
        Ok(())
    }
}

/// Tells whether an error of accepting a connection is temporary, so that the next connection may be accepted all the same.
fn is_passing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted)
}

fn hand_on(near: &TcpStream, target: &Target) -> io::Result<()> {
    near.set_nonblocking(false)?;
    let far = target.network.connect(target.address, CONNECT_DEADLINE.scaled())?;
    for stream in [near, &far] {
        stream.set_nodelay(true)?;
    }
    std::thread::scope(|scope| {
        let there = std::thread::Builder::new().spawn_scoped(scope, || pass(near, &far))?;
        pass(&far, near);
        let _ = there.join(); // it does not panic
        Ok(())
    })
}

/// Copies one direction of a connection to its end, and closes that direction of the other connection too. After a failure both directions
/// are closed.
fn pass(mut from: &TcpStream, mut to: &TcpStream) {
    let passed = io::copy(&mut from, &mut to);
    let _ = to.shutdown(Shutdown::Write); // it may be shut already
    if passed.is_err() {
        for stream in [from, to] {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::path::Path;
    use std::sync::Mutex;
    use std::sync::atomic::AtomicBool;

    use super::*;
    use crate::host::invoker::is_root;

    #[test]
    fn both_ends_of_a_connection_are_handed_on() {
        if !is_root() {
            return; // entering a namespace, even one's own, needs root
        }
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let network = NetworkNamespace::open(Path::new("/proc/self/ns/net")).unwrap();
        let target = Arc::new(Target { network, address: server.local_addr().unwrap() });
        let forward = Forward::listen(None).unwrap();
        let (address, ends) = (forward.address().unwrap(), Arc::new(AtomicBool::new(false)));
        assert!(address.ip().is_loopback());
        let taken = Forward::listen(Some(address.port())).unwrap_err();
        assert!(taken.to_string().contains("--port N"), "{taken}");
        let told = Arc::new(Mutex::new(Vec::new()));
        let (ended, lines) = (Arc::clone(&ends), Arc::clone(&told));
        let tell: Arc<dyn Fn(String) + Send + Sync> = Arc::new(move |line| lines.lock().unwrap().push(line));
        let serving = std::thread::spawn(move || forward.serve(&target, &|| !ended.load(Ordering::SeqCst), &tell));
        let mut clients: Vec<TcpStream> = (0..5).map(|_| TcpStream::connect(address).unwrap()).collect();
        for client in &mut clients {
            client.write_all(b"question").unwrap();
            client.shutdown(Shutdown::Write).unwrap(); // the server sees the end, and answers after it
        }
        for _ in 0..5 {
            let (mut connection, _) = server.accept().unwrap();
            let mut heard = String::new();
            connection.read_to_string(&mut heard).unwrap();
            connection.write_all(format!("{heard}: answer").as_bytes()).unwrap();
        }
        for client in &mut clients {
            let mut heard = String::new();
            client.read_to_string(&mut heard).unwrap();
            assert_eq!(heard, "question: answer");
        }
        drop(server);
        let mut refused = TcpStream::connect(address).unwrap();
        assert_eq!(refused.read(&mut [0]).unwrap_or(0), 0, "closed, because nobody listens behind it");
        ends.store(true, Ordering::SeqCst);
        serving.join().unwrap().unwrap();
        assert!(told.lock().unwrap().iter().any(|line| line.contains("refused")), "{told:?}");
    }
}
