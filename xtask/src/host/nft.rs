//! Packet filters of a network namespace, by nftables.

use super::netns::NetworkNamespace;
use super::shell::which;

/// A table: everything of one purpose, so that it goes in one step.
#[derive(Debug, Clone, Copy)]
pub struct Table<'a> {
    /// Such as `bridge` or `ip`.
    pub family: &'a str,
    /// Its name in that family.
    pub name: &'a str,
}

impl Table<'_> {
    /// Makes the table of these lines, chains with rules, in one step.
    ///
    /// # Errors
    /// With what `nft` said; nothing is made then.
    pub fn make(&self, network: &NetworkNamespace, body: &str) -> anyhow::Result<()> {
        run(network, &format!("table {} {} {{\n{body}\n}}\n", self.family, self.name))
    }

    /// What keeps this host from such a table; `None` when nothing does. Tried in a namespace of its own.
    #[must_use]
    pub fn problem(&self, body: &str) -> Option<String> {
        if which("nft").is_none() {
            return Some("nft is not installed".into());
        }
        let tried = NetworkNamespace::make().and_then(|network| self.make(&network, body));
        tried.err().map(|error| format!("{error:#}"))
    }

    /// Removes it with all it holds; one that is not there is fine.
    ///
    /// # Errors
    /// With what `nft` said.
    pub fn delete(&self, network: &NetworkNamespace) -> anyhow::Result<()> {
        // `destroy` is newer than many an nft: made where it is missing, the table is there to be deleted.
        let Self { family, name } = self;
        run(network, &format!("table {family} {name} {{\n}}\ndelete table {family} {name}\n"))
    }

    /// Whether it is there.
    ///
    /// # Errors
    /// When `nft` cannot be asked.
    pub fn exists(&self, network: &NetworkNamespace) -> anyhow::Result<bool> {
        let tables = network.command("nft").args(["list", "tables"]).run()?.text();
        Ok(tables.lines().any(|line| line.trim() == format!("table {} {}", self.family, self.name)))
    }

    /// How many packets its counters have counted together.
    ///
    /// # Errors
    /// When it is not there.
    pub fn packets(&self, network: &NetworkNamespace) -> anyhow::Result<u64> {
        let list = network.command("nft").args(["list", "table", self.family, self.name]).run()?;
        Ok(counted(&list.text()))
    }
}

/// Whether a network namespace has any table.
///
/// # Errors
/// When `nft` cannot be asked.
pub fn has_tables(network: &NetworkNamespace) -> anyhow::Result<bool> {
    let tables = network.command("nft").args(["list", "tables"]).run()?.text();
    // Those that iptables keeps there are none of a fault.
    Ok(tables
        .lines()
        .any(|line| line.starts_with("table ") && !line.ends_with(" mangle") && !line.ends_with(" filter")))
}

fn run(network: &NetworkNamespace, script: &str) -> anyhow::Result<()> {
    network.command("nft").args(["-f", "-"]).stdin(script).run()?;
    Ok(())
}

/// The sum of all `counter packets N` of a listing.
fn counted(listing: &str) -> u64 {
    let words: Vec<&str> = listing.split_whitespace().collect();
    let counts = words.windows(3).filter(|words| words[..2] == ["counter", "packets"]);
    counts.filter_map(|words| words[2].parse::<u64>().ok()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_added_up() {
        let listing = "table bridge x {\n\tchain forward {\n\t\ttype filter hook forward priority filter; policy accept;\n\
                       \t\tiifname \"port12\" counter packets 3 bytes 180 drop\n\
                       \t\toifname \"port12\" counter packets 14 bytes 840 drop\n\t}\n}\n";
        assert_eq!(counted(listing), 17);
        assert_eq!(counted("table bridge x {\n}\n"), 0);
    }
}
