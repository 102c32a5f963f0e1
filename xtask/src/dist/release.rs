//! Files of a release, written into a folder with their checksums.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Command;
use clap_complete::{Shell, generate};
use clap_mangen::Man;
use flate2::Compression;
use sha2::{Digest as _, Sha256};

use super::program::{Linkage, Profile, build};
use super::tree::{Tree, gz};
use super::{NAME, debian};

const VERSION: &str = env!("CARGO_PKG_VERSION");

#[derive(Debug)]
pub struct Release {
    /// Libraries that the program needs on the machine where it is installed.
    pub linkage: Linkage,
    /// Files of the release; `SHA256SUMS` is the last one.
    pub files: Vec<ReleaseFile>,
}

/// File of a release, with its checksum.
#[derive(Debug)]
pub struct ReleaseFile {
    pub path: PathBuf,
    pub size_bytes: u64,
    /// SHA-256 checksum of the file, in hexadecimal digits.
    pub sha256: String,
}

/// Builds the engine from a checkout, and writes its release into a folder, replacing an earlier release of this version.
pub fn release(root: &Path, profile: Profile, out: &Path, command: &clap::Command) -> anyhow::Result<Release> {
    let program = build(root, profile)?;
    let compression = match profile {
        Profile::Release => Compression::best(),
        Profile::Dev => Compression::fast(),
    };
    let read = |name: &str| std::fs::read(root.join(name)).with_context(|| format!("reading {name} of the checkout"));
    let texts =
        [("LICENSE", read("LICENSE")?), ("README.md", read("README.md")?), ("CHANGELOG.md", read("CHANGELOG.md")?)];
    let pages = pages(command)?;
    let shells = [Shell::Bash, Shell::Zsh, Shell::Fish].map(|shell| (shell, completion(command, shell)));

    let mut archive = Tree::default();
    archive.add_program(format!("bin/{NAME}"), program.content.clone());
    for (name, text) in &texts {
        archive.add(*name, text.clone());
    }
    for (name, page) in &pages {
        archive.add(format!("share/man/man1/{name}"), page.clone());
    }
    for (shell, text) in &shells {
        archive.add(completion_path(*shell, "zsh/site-functions"), text.clone());
    }

    let mut installed = Tree::default();
    installed.add_program(format!("usr/bin/{NAME}"), program.content);
    for (name, text) in texts {
        let name = if name == "LICENSE" { "copyright" } else { name };
        installed.add(format!("usr/share/doc/{NAME}/{name}"), text);
    }
    for (name, page) in pages {
        installed.add(format!("usr/share/man/man1/{name}.gz"), gz(&page)?);
    }
    for (shell, text) in shells {
        installed.add(format!("usr/{}", completion_path(shell, "zsh/vendor-completions")), text);
    }

    let folder = format!("{NAME}-{VERSION}-{}", std::env::consts::ARCH);
    let package = format!("{NAME}_{VERSION}_{}.deb", debian::architecture());
    let mut files = vec![
        (format!("{folder}.tar.gz"), archive.tar_gz(&folder, compression)?),
        (package, debian::package(VERSION, &program.linkage, &installed, compression)?),
    ];
    files.sort();
    let sums: String = files.iter().map(|(name, content)| format!("{}  {name}\n", sha256(content))).collect();
    files.push(("SHA256SUMS".to_owned(), sums.into_bytes()));

    std::fs::create_dir_all(out).with_context(|| format!("creating the folder {}", out.display()))?;
    let write = |(name, content): (String, Vec<u8>)| {
        let path = out.join(name);
        std::fs::write(&path, &content).with_context(|| format!("writing {}", path.display()))?;
        Ok(ReleaseFile { path, size_bytes: content.len() as u64, sha256: sha256(&content) })
    };
    let files = files.into_iter().map(write).collect::<anyhow::Result<_>>()?;
    Ok(Release { linkage: program.linkage, files })
}

/// Returns the path, relative to the installation's prefix, at which a shell looks for the program's completions. `zsh` is the name of
/// zsh's folder in `share`: Debian packages use another one.
fn completion_path(shell: Shell, zsh: &str) -> String {
    match shell {
        Shell::Zsh => format!("share/{zsh}/_{NAME}"),
        Shell::Fish => format!("share/fish/vendor_completions.d/{NAME}.fish"),
        _ => format!("share/bash-completion/completions/{NAME}"),
    }
}

fn sha256(content: &[u8]) -> String {
    Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Name by which the program is called in a checkout.
const IN_A_CHECKOUT: &str = "cargo xtask";

/// Returns the pages of the manual with their file names: a page for the program, and one for each visible verb.
fn pages(command: &Command) -> anyhow::Result<Vec<(String, Vec<u8>)>> {
    let mut command = installed(command).disable_help_subcommand(true);
    let source = format!("{NAME} {}", command.get_version().unwrap_or_default());
    command.build(); // gives each verb its whole name, and the options of all verbs
    let mut pages = Vec::new();
    let mut open = vec![command];
    while let Some(command) = open.pop() {
        open.extend(command.get_subcommands().filter(|verb| !verb.is_hide_set()).cloned());
        let page = Man::new(command).source(source.as_str());
        let mut content = Vec::new();
        page.render(&mut content)?;
        pages.push((page.get_filename(), with_own_name(&content)));
    }
    pages.sort();
    Ok(pages)
}

/// Returns the script by which a shell completes the program's arguments.
#[must_use]
fn completion(command: &Command, shell: Shell) -> Vec<u8> {
    let mut content = Vec::new();
    generate(shell, &mut installed(command), NAME, &mut content);
    with_own_name(&content)
}

fn installed(command: &Command) -> Command {
    command.clone().name(NAME).bin_name(NAME).display_name(NAME)
}

/// Replaces the program's name in a checkout, which the help uses, by the installed name.
fn with_own_name(text: &[u8]) -> Vec<u8> {
    String::from_utf8_lossy(text).replace(IN_A_CHECKOUT, NAME).into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command() -> Command {
        let verb = Command::new("break").about("Break it, as `cargo xtask break` does").arg(clap::arg!(--hard "Hard"));
        let inner = Command::new("list").about("List");
        let hidden = Command::new("guard").hide(true);
        Command::new("cargo xtask")
            .bin_name("cargo xtask")
            .version("1.2")
            .subcommand(verb.subcommand(inner))
            .subcommand(hidden)
    }

    #[test]
    fn each_verb_that_is_shown_has_a_page() {
        let pages = pages(&command()).unwrap();
        let names: Vec<&str> = pages.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["mancer-e2e-break-list.1", "mancer-e2e-break.1", "mancer-e2e.1"]);
        let page = String::from_utf8(pages[1].1.clone()).unwrap();
        assert!(page.contains(".TH mancer-e2e-break 1") && page.contains("as `mancer-e2e break` does"), "{page}");
        assert!(page.contains("hard") && !page.contains("xtask"), "{page}");
    }

    #[test]
    fn each_shell_completes_the_verbs() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let text = String::from_utf8(completion(&command(), shell)).unwrap();
            assert!(text.contains("mancer-e2e") && text.contains("break") && text.contains("hard"), "{shell}: {text}");
            assert!(!text.contains("xtask"), "{shell}");
        }
    }
}
