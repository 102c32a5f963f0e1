//! LXC's policy: a file beside a machine's configuration.

use std::fmt::Write as _;

use nix::libc;

use super::part::Part;

/// A line of the policy: the call with its condition, its error, and the part that makes the line go away.
struct Rule {
    call: &'static str,
    error: libc::c_int,
    condition: &'static str,
    unless: Option<Part>,
}

const fn rule(call: &'static str, error: libc::c_int, condition: &'static str, unless: Option<Part>) -> Rule {
    Rule { call, error, condition, unless }
}

/// `CLONE_NEWUSER` in the first argument.
const NEW_USER: &str = " [0,0x10000000,SCMP_CMP_MASKED_EQ,0x10000000]";

/// Few lines, because libseccomp compiles them at each start of a program: what LXC itself needs to start a machine, so that the
/// engine's filter lets it pass then; and what an `lxc-attach` that a person starts must not open, because there the engine's filter
/// is missing.
const RULES: &[Rule] = &[
    rule("clone", libc::EPERM, NEW_USER, Some(Part::UserNamespaces)),
    rule("unshare", libc::EPERM, NEW_USER, Some(Part::UserNamespaces)),
    rule("clone3", libc::ENOSYS, "", None),
    rule("add_key", libc::ENOSYS, "", Some(Part::Keyring)),
    rule("request_key", libc::ENOSYS, "", Some(Part::Keyring)),
    rule("keyctl", libc::ENOSYS, "", Some(Part::Keyring)),
    rule("io_uring_setup", libc::ENOSYS, "", Some(Part::IoUring)),
    rule("bpf", libc::EPERM, "", Some(Part::Bpf)),
    rule("perf_event_open", libc::ENOSYS, "", Some(Part::Perf)),
    rule("userfaultfd", libc::ENOSYS, "", Some(Part::Userfaultfd)),
    rule("open_by_handle_at", libc::EPERM, "", Some(Part::FileHandles)),
];

/// Makes the policy of machines whose template asks for these parts, in version 2 of LXC's format.
#[must_use]
pub fn policy(parts: &[Part]) -> String {
    let mut text = String::from("2\ndenylist\n[all]\n");
    for Rule { call, error, condition, .. } in
        RULES.iter().filter(|rule| rule.unless.is_none_or(|part| !parts.contains(&part)))
    {
        let _ = writeln!(text, "{call} errno {error}{condition}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_has_a_line_for_each_call_that_is_not_asked_for() {
        let lines = |parts: &[Part]| policy(parts).lines().map(str::to_owned).collect::<Vec<_>>();
        let all = lines(&[]);
        assert_eq!(all[..3], ["2", "denylist", "[all]"]);
        assert_eq!(all[3], "clone errno 1 [0,0x10000000,SCMP_CMP_MASKED_EQ,0x10000000]");
        assert_eq!(all.len(), 3 + RULES.len());
        let left = lines(&[Part::UserNamespaces, Part::Keyring]);
        assert_eq!(left[3], "clone3 errno 38");
        assert_eq!(left.len(), all.len() - 5);
    }
}
