//! Receive buffer of a socket: its size, and the packets that it had no room for.

use std::io;
use std::mem::size_of_val;
use std::os::fd::{AsFd, AsRawFd as _};

use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{getsockopt, setsockopt, sockopt};

/// Option of asm-generic/socket.h that the libc crate lacks.
const SO_MEMINFO: libc::c_int = 55;

/// Number of fields of the value of `SO_MEMINFO` (`SK_MEMINFO_VARS` in linux/sock_diag.h), and the index of the one that counts drops.
const MEMORY_FIELDS: usize = 9;
const MEMORY_DROPS: usize = 8;

/// Enlarges the receive buffer of a socket, and returns the bytes that the kernel granted.
///
/// The host's root gets as much as it wants. Root of an unprivileged container gets no more than the host's `net.core.rmem_max`, which no
/// container can change: callers adapt to the result, or count dropped packets. The kernel grants twice what is wanted, and fills that with
/// its own bookkeeping as well.
pub fn enlarge(socket: &impl AsFd, wanted_bytes: usize) -> io::Result<usize> {
    match setsockopt(socket, sockopt::RcvBufForce, &wanted_bytes) {
        Ok(()) => {}
        Err(Errno::EPERM) => setsockopt(socket, sockopt::RcvBuf, &wanted_bytes)?,
        Err(error) => return Err(error.into()),
    }
    Ok(getsockopt(socket, sockopt::RcvBuf)?)
}

/// Returns the number of packets that a socket has dropped since it was opened, because its buffer was full or their checksum wrong.
pub fn dropped(socket: &impl AsFd) -> io::Result<u64> {
    let mut fields = [0_u32; MEMORY_FIELDS];
    let mut length = libc::socklen_t::try_from(size_of_val(&fields)).map_err(io::Error::other)?;
    // SAFETY: the kernel writes no more than `length` bytes to `fields`, which has as many.
    let asked = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            SO_MEMINFO,
            fields.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    Errno::result(asked)?;
    Ok(fields[MEMORY_DROPS].into())
}

/// Formats a buffer's size for people, in KiB.
#[must_use]
pub fn kibibytes(bytes: usize) -> String {
    format!("{} KiB", bytes / 1024)
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, UdpSocket};

    use super::*;

    const CAP_NET_ADMIN: u32 = 12;

    /// Runs work in a thread without the right to exceed the host's limits, as root of an unprivileged container is.
    fn without_the_right<T: Send>(work: impl FnOnce() -> T + Send) -> T {
        let drop_the_right = || {
            let header = [0x2008_0522_u32, 0]; // version 3 of the interface, the calling thread
            let mut data = [0_u32; 6]; // effective, permitted, inheritable, twice
            // SAFETY: both arrays are as long as version 3 wants them.
            Errno::result(unsafe { libc::syscall(libc::SYS_capget, header.as_ptr(), data.as_mut_ptr()) }).unwrap();
            data[0] &= !(1 << CAP_NET_ADMIN);
            // SAFETY: as above.
            Errno::result(unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), data.as_ptr()) }).unwrap();
        };
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                drop_the_right();
                work()
            });
            thread.join().unwrap()
        })
    }

    fn socket() -> UdpSocket {
        UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap()
    }

    #[test]
    fn without_the_right_a_buffer_grows_as_far_as_the_host_allows() {
        let most: usize = std::fs::read_to_string("/proc/sys/net/core/rmem_max").unwrap().trim().parse().unwrap();
        let granted = without_the_right(|| {
            let socket = socket();
            let refused = setsockopt(&socket, sockopt::RcvBufForce, &(most * 2));
            assert_eq!(refused, Err(Errno::EPERM), "the test must be without the right");
            enlarge(&socket, most * 2).unwrap()
        });
        assert_eq!(granted, most * 2, "the kernel doubles what it grants");
        assert!(without_the_right(|| enlarge(&socket(), 8192).unwrap()) < granted, "no more than wanted");
    }

    #[test]
    fn packets_without_room_are_counted() {
        let (sender, receiver) = (socket(), socket());
        enlarge(&receiver, 1).unwrap(); // the kernel's least
        assert_eq!(dropped(&receiver).unwrap(), 0);
        for _ in 0..100 {
            sender.send_to(&[0; 100], receiver.local_addr().unwrap()).unwrap();
        }
        receiver.set_nonblocking(true).unwrap();
        let arrived = std::iter::from_fn(|| receiver.recv(&mut [0; 100]).ok()).count();
        assert!((1..100).contains(&arrived), "{arrived}");
        assert_eq!(dropped(&receiver).unwrap(), 100 - arrived as u64);
    }
}
