//! `kernel.log`: what the host's kernel said while a case ran. It does not say whose it is: of labs side by side each has
//! all of it.

use std::time::SystemTime;

use crate::host::kmsg::{KernelMessage, KernelWatch, Noted, WATCHED_MAX};
use crate::record::RunDir;
use crate::record::logs::LogLevel;

/// File name in a case's folder.
const KERNEL_LOG: &str = "kernel.log";

/// Keeps what was said, where anything was, in the folder of an attempt.
pub(super) fn write_kernel_log(dir: &RunDir, folder: &str, watch: Option<KernelWatch>) -> anyhow::Result<()> {
    let said = watch.map(KernelWatch::end).unwrap_or_default();
    if said.is_empty() {
        return Ok(());
    }
    dir.write(&format!("{folder}/{KERNEL_LOG}"), text_of(&said).as_bytes())
}

fn text_of(said: &[Noted]) -> String {
    let mut text: String = said.iter().map(|(at, message)| line(*at, message)).collect();
    if let Some((at, _)) = said.get(WATCHED_MAX - 1) {
        let message = format!("[only the first {WATCHED_MAX} messages of the kernel are kept]");
        text.push_str(&line(*at, &KernelMessage { priority: 5, text: message }));
    }
    text
}

fn line(at: SystemTime, message: &KernelMessage) -> String {
    let level = LogLevel::of_priority(message.priority);
    format!("{} {level}: {}\n", humantime::format_rfc3339_micros(at), message.text)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_line_has_its_time_and_level() {
        let at = SystemTime::UNIX_EPOCH + Duration::from_millis(1_795_677_625_500);
        let message = KernelMessage { priority: 3, text: "Out of memory: Killed process 1".into() };
        assert_eq!(line(at, &message), "2026-11-26T07:20:25.500000Z error: Out of memory: Killed process 1\n");
        let (one, too_many) = (vec![(at, message.clone())], vec![(at, message); WATCHED_MAX]);
        assert_eq!(text_of(&one).lines().count(), 1);
        assert!(text_of(&too_many).ends_with("[only the first 10000 messages of the kernel are kept]\n"));
    }
}
