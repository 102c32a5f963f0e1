//! Identity of this host, and the class of machines that it belongs to.

use std::path::Path;
use std::sync::OnceLock;

use crate::host::cgroup;
use crate::host::machine::hardware;
use crate::host::machine::load::Memory;
use crate::record::Machine;

/// Host that runs the engine, with its class of machines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownMachine {
    pub machine: Machine,
    /// Name of the class of comparable machines, such as `x86-64-2c-24g-amd-epyc`: architecture, processors, memory in GiB, and model of
    /// the processor, of a-z, 0-9 and '-'.
    pub class: String,
}

/// Returns the host that this process runs on, inspected once; `state` is the folder of the layers, whose storage is part of the result.
pub fn this_machine(state: &Path) -> &'static KnownMachine {
    static MACHINE: OnceLock<KnownMachine> = OnceLock::new();
    MACHINE.get_or_init(|| {
        let machine = Machine {
            cpu_model: hardware::cpu_model(),
            cores: hardware::cores(),
            memory_bytes: Memory::now().total_bytes,
            kernel: hardware::kernel(),
            lxc: hardware::lxc_version(),
            storage: hardware::storage(state),
            cgroup: cgroup::layout().to_owned(),
        };
        KnownMachine { class: class(std::env::consts::ARCH, &machine), machine }
    })
}

/// Returns the class of a machine, such as `x86-64-2c-24g-amd-epyc`. Kernel, LXC and storage are left out, so that a comparison within a
/// class can show the effect of updating them.
fn class(architecture: &str, machine: &Machine) -> String {
    // Firmware keeps some for itself, so that no machine has whole gibibytes.
    let memory_gib = (machine.memory_bytes + (1 << 29)) >> 30;
    let model = machine.cpu_model.to_lowercase().replace("(r)", " ").replace("(tm)", " ");
    slug(&format!("{architecture} {}c {memory_gib}g {model}", machine.cores))
}

fn slug(text: &str) -> String {
    let mut slug = String::new();
    for letter in text.to_lowercase().chars() {
        if letter.is_ascii_lowercase() || letter.is_ascii_digit() {
            slug.push(letter);
        } else if !slug.ends_with('-') {
            slug.push('-');
        }
    }
    slug.trim_matches('-').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(cpu_model: &str, memory_bytes: u64) -> Machine {
        Machine { cpu_model: cpu_model.into(), memory_bytes, ..this_machine(Path::new("/")).machine.clone() }
    }

    #[test]
    fn a_class_is_a_folders_name() {
        let check = |model: &str, memory_mib: u64, expected: &str| {
            let machine = Machine { cores: 8, ..machine(model, memory_mib << 20) };
            assert_eq!(class("x86_64", &machine), expected);
        };
        check("AMD EPYC", 24_064, "x86-64-8c-24g-amd-epyc");
        check("Intel(R) Xeon(R) CPU @ 2.20GHz", 15_990, "x86-64-8c-16g-intel-xeon-cpu-2-20ghz");
        check("  ", 300, "x86-64-8c-0g");
    }

    #[test]
    fn this_machine_has_a_class() {
        let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        let class = &this_machine(Path::new("/")).class;
        assert!(class.chars().all(good) && class.starts_with(|c: char| c.is_ascii_lowercase()), "{class}");
    }
}
