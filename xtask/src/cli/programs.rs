//! Folder of the scenarios' programs, for the verbs that run scenarios.

use std::path::{Path, PathBuf};

/// The word that names the folder when the engine becomes root: it has built the programs as the user before.
pub const BUILT: &str = "--built";

/// Folder of the programs.
#[derive(Debug, clap::Args)]
pub struct ProgramsArgs {
    /// Folder with the scenarios' built programs, for machines without Cargo. `cargo build --release --bins` puts them
    /// into target/release. A scenario with a command needs none.
    #[arg(long, value_name = "DIR")]
    binaries: Option<PathBuf>,
    /// The same, from the engine itself when it becomes root: no word of the user's.
    #[arg(long, hide = true, value_name = "DIR", conflicts_with = "binaries")]
    built: Option<PathBuf>,
}

/// The words that this program was called with, but for those that it gives itself when it becomes root.
pub fn own_words() -> Vec<String> {
    let mut words = std::env::args().skip(1);
    let mut own = Vec::new();
    while let Some(word) = words.next() {
        if word == BUILT {
            words.next();
        } else {
            own.push(word);
        }
    }
    own
}

impl ProgramsArgs {
    /// The folder, where they are built already.
    pub fn folder(&self) -> Option<&Path> {
        self.binaries.as_deref().or(self.built.as_deref())
    }
}
