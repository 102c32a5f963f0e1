//! The engine's own seccomp filter: a BPF program for the kernel, made from the table of calls.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

use nix::errno::Errno;
use nix::libc::{self, sock_filter};

use super::calls::Part;
use super::calls::{
    ALLOWED, ALLOWED_HERE, ALLOWED_NEWER, ARCHITECTURE, ARCHITECTURE_32_BIT, ASKED_FOR, FAMILIES, REFUSED, SOCKET,
    WITH_NAMESPACES,
};

/// File in which a kernel with seccomp filters lists their actions.
const ACTIONS: &str = "/proc/sys/kernel/seccomp/actions_avail";

/// Tells whether processes can have filters here: the kernel has them, and this processor's calls are known.
#[must_use]
pub fn is_supported() -> bool {
    ARCHITECTURE.is_some() && Path::new(ACTIONS).exists()
}

/// Kind of program that a filter is installed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Occasion {
    /// Program of LXC, which makes user namespaces and a keyring itself. LXC's policy forbids both before the machine's program starts.
    Lxc,
    /// Program of another kind, such as `nsenter`, which has no policy of LXC.
    Entry,
}

/// Filter, ready to be installed on a process.
#[derive(Debug, Clone)]
pub struct Filter {
    program: Arc<[sock_filter]>,
}

/// Decision on a system call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Decision {
    Allow,
    Refuse(libc::c_int),
    /// Refused with the flag of a user namespace, else allowed.
    WithoutUserNamespace,
    /// Allowed with the socket families that every machine has, else refused.
    KnownFamilies,
}

/// Offsets in the data of a call that the kernel shows a filter (`seccomp_data`).
const NUMBER: u32 = 0;
const ARCHITECTURE_OF_CALL: u32 = 4;
/// Offset of the lower half of the first argument. The upper half has no meaning in the calls whose argument is checked.
const FIRST_ARGUMENT: u32 = 16;

impl Filter {
    /// Makes the filter of machines whose template asks for these parts. `None` where the calls of this processor are not known.
    #[must_use]
    pub fn of(parts: &[Part], occasion: Occasion) -> Option<Self> {
        let mut parts = parts.to_vec();
        if occasion == Occasion::Lxc {
            parts.extend([Part::UserNamespaces, Part::Keyring]);
        }
        let foreign = if parts.contains(&Part::Programs32Bit) { ret_allow() } else { kill() };
        let mut program = vec![load(ARCHITECTURE_OF_CALL)];
        program.extend([jump_equal(ARCHITECTURE?, 3, 0), jump_equal(ARCHITECTURE_32_BIT, 0, 1), foreign, kill()]);
        program.push(load(NUMBER));
        program.extend(search(&stretches(&parts)));
        Some(Self { program: program.into() })
    }

    /// Installs the filter on the calling process, which needs root's rights in its user namespace. Programs that the process starts have
    /// it too. Makes one system call and allocates nothing: safe between fork and exec.
    pub fn install(&self) -> io::Result<()> {
        let length = libc::c_ushort::try_from(self.program.len()).map_err(|_| Errno::E2BIG)?;
        let program = libc::sock_fprog { len: length, filter: self.program.as_ptr().cast_mut() };
        // SAFETY: the kernel reads the program, which outlives the call, and writes to nothing.
        let result = unsafe {
            libc::syscall(
                libc::SYS_seccomp,
                libc::SECCOMP_SET_MODE_FILTER,
                libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW,
                &raw const program,
            )
        };
        Errno::result(result).map(drop).map_err(io::Error::from)
    }
}

/// Returns the decisions on all calls, each with the first call number from which on it holds.
fn stretches(parts: &[Part]) -> Vec<(u32, Decision)> {
    let mut decisions = BTreeMap::new();
    let mut decide = |calls: &[super::calls::Call], decision| {
        decisions.extend(calls.iter().filter_map(|(_, number)| Some((u32::try_from(*number).ok()?, decision))));
    };
    for calls in [ALLOWED, ALLOWED_HERE, ALLOWED_NEWER] {
        decide(calls, Decision::Allow);
    }
    for (part, calls, error) in ASKED_FOR {
        decide(calls, if parts.contains(part) { Decision::Allow } else { Decision::Refuse(*error) });
    }
    decide(REFUSED, Decision::Refuse(libc::EPERM));
    let is_asked = |part| parts.contains(&part);
    decide(
        WITH_NAMESPACES,
        if is_asked(Part::UserNamespaces) { Decision::Allow } else { Decision::WithoutUserNamespace },
    );
    decide(&[("SYS_socket", SOCKET)], if is_asked(Part::Sockets) { Decision::Allow } else { Decision::KnownFamilies });
    let unknown = Decision::Refuse(libc::ENOSYS);
    let mut stretches = vec![(0, unknown)];
    for (number, decision) in decisions {
        for (start, next) in [(number, decision), (number + 1, unknown)] {
            if stretches.last().is_some_and(|(last, _)| *last == start) {
                stretches.pop();
            }
            if stretches.last().is_none_or(|(_, last)| *last != next) {
                stretches.push((start, next));
            }
        }
    }
    stretches
}

/// Returns the instructions that find the decision on a call by a binary search of its number.
fn search(stretches: &[(u32, Decision)]) -> Vec<sock_filter> {
    if let [(_, decision)] = stretches {
        return decide(*decision);
    }
    let (lower, upper) = stretches.split_at(stretches.len() / 2);
    let below = search(lower);
    // A conditional jump reaches 255 instructions, the other one any.
    let over = u32::try_from(below.len()).unwrap_or(u32::MAX);
    let mut program = vec![instruction(libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K, 0, 1, upper[0].0)];
    program.push(instruction(libc::BPF_JMP | libc::BPF_JA, 0, 0, over));
    program.extend(below);
    program.extend(search(upper));
    program
}

fn decide(decision: Decision) -> Vec<sock_filter> {
    match decision {
        Decision::Allow => vec![ret_allow()],
        Decision::Refuse(error) => vec![ret_error(error)],
        Decision::WithoutUserNamespace => {
            let flag = libc::CLONE_NEWUSER.cast_unsigned();
            let test = instruction(libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K, 0, 1, flag);
            vec![load(FIRST_ARGUMENT), test, ret_error(libc::EPERM), ret_allow()]
        }
        Decision::KnownFamilies => {
            let mut program = vec![load(FIRST_ARGUMENT)];
            let count = u8::try_from(FAMILIES.len()).unwrap_or(u8::MAX);
            let jumps = FAMILIES.iter().zip((1..=count).rev());
            program.extend(jumps.map(|(family, left)| jump_equal(family.cast_unsigned(), left, 0)));
            program.extend([ret_error(libc::EAFNOSUPPORT), ret_allow()]);
            program
        }
    }
}

fn instruction(code: u32, if_true: u8, if_false: u8, value: u32) -> sock_filter {
    sock_filter { code: u16::try_from(code).unwrap_or_default(), jt: if_true, jf: if_false, k: value }
}

fn load(offset: u32) -> sock_filter {
    instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, offset)
}

fn jump_equal(value: u32, if_true: u8, if_false: u8) -> sock_filter {
    instruction(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, if_true, if_false, value)
}

fn ret(value: u32) -> sock_filter {
    instruction(libc::BPF_RET | libc::BPF_K, 0, 0, value)
}

fn ret_allow() -> sock_filter {
    ret(libc::SECCOMP_RET_ALLOW)
}

fn ret_error(error: libc::c_int) -> sock_filter {
    ret(libc::SECCOMP_RET_ERRNO | error.cast_unsigned())
}

/// Returns the instruction that ends the process by SIGSYS: a 32-bit program that got errors instead would crash without telling why.
fn kill() -> sock_filter {
    ret(libc::SECCOMP_RET_KILL_PROCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    const REGISTER: u32 = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
    const ALLOWED_ANSWER: u32 = libc::SECCOMP_RET_ALLOW;

    /// Returns the answer of a filter to a call, as the kernel computes it.
    fn answer(filter: &Filter, architecture: u32, number: libc::c_long, argument: u32) -> u32 {
        let (mut place, mut register) = (0, 0);
        loop {
            let it = filter.program[place];
            place += 1;
            let code = u32::from(it.code);
            let mut jump = |is_true: bool| place += usize::from(if is_true { it.jt } else { it.jf });
            match code {
                REGISTER => {
                    register = match it.k {
                        NUMBER => u32::try_from(number).unwrap(),
                        ARCHITECTURE_OF_CALL => architecture,
                        FIRST_ARGUMENT => argument,
                        other => panic!("offset {other}"),
                    }
                }
                _ if code == libc::BPF_JMP | libc::BPF_JEQ => jump(register == it.k),
                _ if code == libc::BPF_JMP | libc::BPF_JGE => jump(register >= it.k),
                _ if code == libc::BPF_JMP | libc::BPF_JSET => jump(register & it.k != 0),
                _ if code == libc::BPF_JMP | libc::BPF_JA => place += usize::try_from(it.k).unwrap(),
                _ if code == libc::BPF_RET => return it.k,
                other => panic!("instruction {other}"),
            }
        }
    }

    fn refused(error: libc::c_int) -> u32 {
        libc::SECCOMP_RET_ERRNO | error.cast_unsigned()
    }

    #[test]
    fn each_call_has_the_answer_of_the_table() {
        let Some(here) = ARCHITECTURE else { return };
        let plain = Filter::of(&[], Occasion::Entry).unwrap();
        let of = |number, argument| answer(&plain, here, number, argument);
        let allowed = [ALLOWED, ALLOWED_HERE, ALLOWED_NEWER].concat();
        for (name, number) in &allowed {
            assert_eq!(of(*number, u32::MAX), ALLOWED_ANSWER, "{name}");
        }
        for (name, number) in REFUSED {
            assert_eq!(of(*number, 0), refused(libc::EPERM), "{name}");
        }
        for (part, calls, error) in ASKED_FOR {
            let asked = Filter::of(&[*part], Occasion::Entry).unwrap();
            for (name, number) in *calls {
                assert_eq!(of(*number, 0), refused(*error), "{name}");
                assert_eq!(answer(&asked, here, *number, 0), ALLOWED_ANSWER, "{name}");
            }
        }
        let known: Vec<libc::c_long> = allowed.iter().map(|(_, number)| *number).collect();
        let others = (0..2000).filter(|number| !known.contains(number));
        let passed: Vec<_> = others.filter(|number| of(*number, 0) == ALLOWED_ANSWER).collect();
        let with_arguments: Vec<_> = WITH_NAMESPACES.iter().map(|(_, number)| *number).collect();
        assert_eq!(
            passed,
            with_arguments.into_iter().collect::<std::collections::BTreeSet<_>>().into_iter().collect::<Vec<_>>()
        );
        assert_eq!(of(libc::SYS_clone3, 0), refused(libc::ENOSYS), "libc makes clone of it, whose flags can be seen");
        assert_eq!(of(100_000, 0), refused(libc::ENOSYS), "a call that is not known yet");
    }

    #[test]
    fn flags_and_families_are_looked_at() {
        let Some(here) = ARCHITECTURE else { return };
        let plain = Filter::of(&[], Occasion::Entry).unwrap();
        let nested = libc::CLONE_NEWUSER.cast_unsigned();
        for (name, number) in WITH_NAMESPACES {
            let others = libc::CLONE_NEWNS.cast_unsigned() | libc::CLONE_NEWNET.cast_unsigned();
            assert_eq!(answer(&plain, here, *number, others), ALLOWED_ANSWER, "{name}");
            assert_eq!(answer(&plain, here, *number, others | nested), refused(libc::EPERM), "{name}");
            for (parts, occasion) in [(&[Part::UserNamespaces][..], Occasion::Entry), (&[], Occasion::Lxc)] {
                let filter = Filter::of(parts, occasion).unwrap();
                assert_eq!(answer(&filter, here, *number, nested), ALLOWED_ANSWER, "{name}");
            }
        }
        for family in 0..64_i32 {
            let expected = if FAMILIES.contains(&family) { ALLOWED_ANSWER } else { refused(libc::EAFNOSUPPORT) };
            assert_eq!(answer(&plain, here, SOCKET, family.cast_unsigned()), expected, "{family}");
        }
        let any = Filter::of(&[Part::Sockets], Occasion::Entry).unwrap();
        assert_eq!(answer(&any, here, SOCKET, libc::AF_VSOCK.cast_unsigned()), ALLOWED_ANSWER);
    }

    #[test]
    fn calls_of_other_processors_end_the_program() {
        let Some(here) = ARCHITECTURE else { return };
        let plain = Filter::of(&[], Occasion::Entry).unwrap();
        assert_eq!(answer(&plain, here ^ 1, libc::SYS_read, 0), libc::SECCOMP_RET_KILL_PROCESS);
        assert_eq!(answer(&plain, ARCHITECTURE_32_BIT, libc::SYS_read, 0), libc::SECCOMP_RET_KILL_PROCESS);
        let old = Filter::of(&[Part::Programs32Bit], Occasion::Entry).unwrap();
        assert_eq!(answer(&old, ARCHITECTURE_32_BIT, 1, 0), ALLOWED_ANSWER);
        assert_eq!(answer(&old, here ^ 1, 1, 0), libc::SECCOMP_RET_KILL_PROCESS);
        assert_eq!(answer(&plain, here, libc::SYS_read | 0x4000_0000, 0), refused(libc::ENOSYS), "x32");
    }

    #[test]
    fn a_filter_stays_small() {
        let length = Filter::of(&[], Occasion::Entry).map_or(0, |filter| filter.program.len());
        assert!(
            length < 1000,
            "{length}: the kernel takes 4096 instructions, and goes through them for each call once"
        );
    }
}
