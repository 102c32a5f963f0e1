//! Trials of kernel parts, in throw-away namespaces that end with the process that tries.

use std::collections::BTreeMap;

use crate::host::exec::shell::{Command, search_path, which};
use crate::host::patience::Deadline;
use crate::host::syntax::{ShellWord, compose};
use crate::host::tools::packages::WayToRoot;

/// Result of a trial of a part of the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KernelTrial {
    Works,
    /// Failure, with its message.
    Fails(String),
    /// No trial: it takes root, or a tool is missing.
    NotTried,
}

/// Results of trials of kernel parts, by name.
#[derive(Debug, Clone, Default)]
pub struct KernelTrials {
    results: BTreeMap<String, KernelTrial>,
}

/// Deadline of each trial. A trial is killed by its own script, because a user cannot kill a process under sudo.
const TRIAL_DEADLINE: Deadline = Deadline::from_secs(10);

/// Time that a killed trial may take to die past [`TRIAL_DEADLINE`].
const KILL_DEADLINE: Deadline = Deadline::from_secs(5);

/// Start of each script of trials. Prints `NAME ok`, or `NAME no` and the command's output, for each trial.
const PRELUDE: &str = r#"
LC_ALL=C
export LC_ALL
have() { command -v "$1" >/dev/null 2>&1; }
try() {
    name=$1
    shift
    if words=$("$@" 2>&1); then
        echo "$name ok"
    else
        echo "$name no" $(printf '%s' "$words" | head -c 300)
    fi
}
"#;

const NAMESPACES: &str = r"
have unshare || exit 0
try namespaces unshare --pid --uts --ipc --mount --net --cgroup --fork true
try user-namespace unshare --user true
";

const NETWORK: &str = r#"
echo "network-namespace ok"
veth() {
    ip link add e2e-v0 type veth peer name e2e-v1 && ip link set e2e-v0 up
}
port() {
    ip link set e2e-v0 master e2e-br0
}
nft_rules() {
    nft add table bridge e2e &&
        nft add chain bridge e2e forward '{ type filter hook forward priority 0; }' &&
        nft add rule bridge e2e forward iifname "e2e-v0" numgen random mod 100 '<' 50 drop
}
port_lock() {
    nft add chain bridge e2e identity '{ type filter hook prerouting priority -350; }' &&
        nft add rule bridge e2e identity iifname . ether saddr '!=' '{ "e2e-v0" . 02:e2:e0:00:00:02 }' counter drop
}
if have ip; then
    try bridge ip link add e2e-br0 type bridge
    try veth veth
    try bridge-port port
fi
have nft && try nft nft_rules
nft list table bridge e2e >/dev/null 2>&1 && try port-lock port_lock
have tc && try netem tc qdisc add dev lo root netem delay 1ms
queue() {
    "$1" -t mangle -A FORWARD -m physdev --physdev-is-bridged --physdev-out e2e-v0 \
        -j NFQUEUE --queue-num 1 --queue-bypass
}
older() {
    have iptables-legacy && queue iptables-legacy
}
nfqueue() {
    queue iptables || older
}
have iptables && try nfqueue nfqueue
:
"#;

/// Script of trials of mounts. The lower layer of the overlay is where the project's layers lie, so that its file system is tried as well.
const MOUNTS: &str = r"
mount -t tmpfs -o size=32m tmpfs /tmp && cd /tmp || exit 1
mkdir upper work merged volume
overlay() {
    mount -t overlay overlay -o lowerdir=/var/lib,upperdir=/tmp/upper,workdir=/tmp/work /tmp/merged &&
        : >/tmp/merged/e2e-doctor
}
loop() {
    truncate -s 4M image && mkfs.ext4 -q -F image && mount -o loop image volume && umount volume
}
try overlay overlay
have mkfs.ext4 && try loop loop
:
";

impl KernelTrials {
    /// Runs all trials, as root or through a sudo that asks no questions; runs none where neither is possible.
    pub fn run(way_to_root: WayToRoot, sudo_is_silent: bool) -> Self {
        let mut trials = Self::default();
        if way_to_root == WayToRoot::Sudo && !sudo_is_silent {
            return trials;
        }
        trials.add(way_to_root, &[], NAMESPACES, "namespaces");
        trials.add(way_to_root, &["unshare", "--net"], NETWORK, "network-namespace");
        trials.add(way_to_root, &["unshare", "--mount", "--propagation", "private"], MOUNTS, "overlay");
        trials
    }

    /// Returns the result of a trial; [`KernelTrial::NotTried`] for a name without a result.
    pub fn get(&self, name: &str) -> &KernelTrial {
        self.results.get(name).unwrap_or(&KernelTrial::NotTried)
    }

    /// Runs a script of trials and adds their results. `enter` holds the words of the command that enters new namespaces, if any; where the
    /// script cannot begin, the trial named `first` counts as failed.
    fn add(&mut self, way_to_root: WayToRoot, enter: &[&str], script: &'static str, first: &str) {
        if enter.first().is_some_and(|program| which(program).is_none()) {
            return;
        }
        let sudo: &[&str] = if way_to_root == WayToRoot::Sudo { &["sudo", "-n"] } else { &[] };
        let deadline = TRIAL_DEADLINE.scaled().as_secs_f64().to_string();
        // Tools of administration are not in everybody's PATH; sudo's own comes before that of its user.
        let Ok(folders) = ShellWord::new(&search_path()) else { return }; // no environment holds a zero byte
        let whole = compose!(
            Shell,
            "export PATH=\"$PATH\":{folders}\n{prelude}{script}",
            folders = folders,
            prelude = PRELUDE,
            script = script,
        );
        let words = [sudo, &["timeout", "-s", "KILL", &deadline], enter, &["sh", "-c", whole.as_script()]].concat();
        let command = Command::new(words[0]).args(&words[1..]);
        let command = command.deadline(TRIAL_DEADLINE.scaled() + KILL_DEADLINE.scaled());
        match command.output() {
            Ok(output) => {
                self.results.extend(parse(&output.text()));
                if output.status != 0 && !self.results.contains_key(first) {
                    let words = String::from_utf8_lossy(&output.stderr).trim().to_owned();
                    let words = if words.is_empty() { format!("ended with status {}", output.status) } else { words };
                    self.results.insert(first.to_owned(), KernelTrial::Fails(words));
                }
            }
            // The script is a page long: the problem alone is for people.
            Err(error) => {
                self.results.insert(first.to_owned(), KernelTrial::Fails(format!("{:?}", error.problem)));
            }
        }
    }
}

fn parse(text: &str) -> Vec<(String, KernelTrial)> {
    let result = |line: &str| {
        let mut words = line.splitn(3, ' ');
        let (name, verdict) = (words.next()?, words.next()?);
        let trial = match verdict {
            "ok" => KernelTrial::Works,
            "no" => KernelTrial::Fails(words.next().unwrap_or("without a word").trim().to_owned()),
            _ => return None,
        };
        Some((name.to_owned(), trial))
    };
    text.lines().filter_map(result).collect()
}

#[cfg(test)]
impl Extend<&'static str> for KernelTrials {
    /// Adds trials that worked.
    fn extend<T: IntoIterator<Item = &'static str>>(&mut self, names: T) {
        self.results.extend(names.into_iter().map(|name| (name.to_owned(), KernelTrial::Works)));
    }
}

#[cfg(test)]
impl FromIterator<(&'static str, KernelTrial)> for KernelTrials {
    fn from_iter<T: IntoIterator<Item = (&'static str, KernelTrial)>>(trials: T) -> Self {
        Self { results: trials.into_iter().map(|(name, trial)| (name.to_owned(), trial)).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_is_a_result() {
        let fails = |words: &str| KernelTrial::Fails(words.to_owned());
        let check = |text: &str, expected: &[(&str, KernelTrial)]| {
            let expected: Vec<_> = expected.iter().map(|(name, trial)| ((*name).to_owned(), trial.clone())).collect();
            assert_eq!(parse(text), expected, "{text}");
        };
        check(
            "bridge ok\nveth no Error: Unknown device type.\n",
            &[("bridge", KernelTrial::Works), ("veth", fails("Error: Unknown device type."))],
        );
        check("loop no", &[("loop", fails("without a word"))]);
        check("a stray line\n\n", &[]);
    }

    #[test]
    fn the_script_tells_success_from_failure_and_keeps_the_words() {
        let mut trials = KernelTrials::default();
        let script = "try good true\ntry bad sh -c 'echo first; echo second >&2; exit 3'\n";
        trials.add(WayToRoot::Direct, &[], script, "good");
        assert_eq!(trials.get("good"), &KernelTrial::Works);
        assert_eq!(trials.get("bad"), &KernelTrial::Fails("first second".to_owned()));
        assert_eq!(trials.get("never"), &KernelTrial::NotTried);
    }

    #[test]
    fn a_script_that_cannot_begin_fails_its_first_try() {
        let mut trials = KernelTrials::default();
        trials.add(WayToRoot::Direct, &["sh", "-c", "echo no room >&2; exit 1"], "", "first");
        assert_eq!(trials.get("first"), &KernelTrial::Fails("no room".to_owned()));
    }
}
