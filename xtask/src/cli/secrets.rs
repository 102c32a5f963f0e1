//! Secrets of scenarios, declared by `--secret` and `[secrets]` of e2e.toml; their values come from the caller's environment and from
//! files.

use std::sync::{Arc, OnceLock};

use anyhow::Context as _;

use super::help::RUNNING;
use crate::error::Error;
use crate::host::invoker::Invoker;
use crate::manifest::{Project, secret_name};
use crate::record::{Masks, plain_text};
use crate::run::Secrets;

/// Masks of this process's secrets; empty until the secrets are read.
static MASKS: OnceLock<Arc<Masks>> = OnceLock::new();

/// Flags of verbs that run scenarios.
#[derive(Debug, Default, clap::Args)]
pub struct SecretFlags {
    /// Give scenarios an environment variable, and mask its value everywhere
    ///
    /// The value stays out of the record, its reports, bundles and the terminal. May be given several times.
    /// `[secrets]` in e2e.toml declares secrets for every run.
    #[arg(long = "secret", value_name = "NAME", value_parser = secret_name, help_heading = RUNNING)]
    names: Vec<String>,
}

impl SecretFlags {
    /// Returns the secrets of a project's runs. From now on, error texts of this process mask their values.
    ///
    /// # Errors
    /// [`Error::Usage`] if a variable that a flag names is not set, or a value cannot be masked.
    pub fn given(&self, project: &Project) -> anyhow::Result<Secrets> {
        let secrets = gathered(project, &self.names)?;
        MASKS.get_or_init(|| Arc::clone(secrets.masks()));
        Ok(secrets)
    }

    /// Returns the names of environment variables with secrets, which sudo must keep when this program starts itself again.
    pub fn variables(&self, project: &Project) -> Vec<String> {
        self.names.iter().chain(&project.secrets.variables).cloned().collect()
    }
}

/// Returns masks for those secrets that a project declares and whose values are known here, to keep the values out of a bundle.
///
/// # Errors
/// [`Error::Usage`] if a value cannot be masked.
pub fn declared(project: &Project) -> anyhow::Result<Arc<Masks>> {
    Ok(Arc::clone(gathered(project, &[])?.masks()))
}

/// Returns the text of an error for the terminal. Secrets of this process are masked, and control characters are removed, because an error
/// can contain output of programs under test.
#[must_use]
pub fn error_text(error: &anyhow::Error) -> String {
    let text = without_secrets(&format!("error: {error:#}"));
    let plain: Vec<String> = text.lines().map(plain_text).collect();
    without_secrets(&plain.join("\n")) // one that hidden characters had parted
}

fn without_secrets(text: &str) -> String {
    MASKS.get().map_or_else(|| text.to_owned(), |masks| masks.text(text).into_owned())
}

fn gathered(project: &Project, names: &[String]) -> anyhow::Result<Secrets> {
    let invoker = Invoker::find();
    let mut values: Vec<(String, String)> = Vec::new();
    for (place, name) in names.iter().chain(&project.secrets.variables).enumerate() {
        if values.iter().any(|(known, _)| known == name) {
            continue;
        }
        // Services of continuous integration set a variable to nothing where a secret may not be had.
        match std::env::var(name) {
            Ok(value) if !value.is_empty() => values.push((name.clone(), value)),
            Err(std::env::VarError::NotUnicode(_)) => {
                let message = format!("the secret {name} is not UTF-8 text\n  help: encode it, such as by base64");
                return Err(Error::Usage(message).into());
            }
            Ok(_) | Err(std::env::VarError::NotPresent) if place < names.len() => {
                let message =
                    format!("--secret {name}: the environment variable {name} is not set\n  help: export {name} first");
                return Err(Error::Usage(message).into());
            }
            Ok(_) | Err(std::env::VarError::NotPresent) => {}
        }
    }
    for (name, path) in &project.secrets.files {
        if values.iter().any(|(known, _)| known == name) {
            continue; // a flag is above the file
        }
        let is_there = || Ok(std::fs::symlink_metadata(path).is_ok());
        if !invoker.act(is_there)? {
            continue;
        }
        let content = invoker.read(path).with_context(|| format!("reading the secret {name}"))?;
        let Ok(text) = String::from_utf8(content) else {
            let message = format!(
                "the secret {name}, {}, is not UTF-8 text\n  help: encode it, such as by base64",
                path.display()
            );
            return Err(Error::Usage(message).into());
        };
        values.push((name.clone(), text.trim_end_matches(['\n', '\r']).to_owned()));
    }
    Secrets::new(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn project(e2e_toml: &str) -> (tempfile::TempDir, Project) {
        let folder = tempfile::tempdir().unwrap();
        for name in ["containers", "scenarios"] {
            std::fs::create_dir(folder.path().join(name)).unwrap();
        }
        std::fs::write(folder.path().join("e2e.toml"), e2e_toml).unwrap();
        let project = Project::read(folder.path()).unwrap();
        (folder, project)
    }

    #[test]
    fn a_file_is_given_without_its_last_line_end_and_one_that_is_missing_is_not() {
        let (folder, project) = project("name = 'x'\n[secrets]\nfiles = { KEY = 'key', NONE = 'none' }");
        std::fs::write(folder.path().join("key"), "hunter22\n").unwrap();
        let secrets = gathered(&project, &[]).unwrap();
        assert_eq!(secrets.variables(), [("KEY".to_owned(), "hunter22".to_owned())]);
        std::fs::write(folder.path().join("key"), "short\n").unwrap();
        let error = gathered(&project, &[]).unwrap_err().to_string();
        assert!(error.starts_with("the secret KEY has fewer than 6 characters"), "{error}");
    }

    #[test]
    fn a_variable_that_is_named_must_be_set_and_one_that_is_declared_may_be_missing() {
        let (_folder, project) = project("name = 'x'\n[secrets]\nvariables = ['NO_SUCH_VARIABLE_HERE']");
        assert!(gathered(&project, &[]).unwrap().variables().is_empty());
        let error = gathered(&project, &["NO_SUCH_VARIABLE_HERE".to_owned()]).unwrap_err().to_string();
        assert!(error.starts_with("--secret NO_SUCH_VARIABLE_HERE: ") && error.contains("\n  help: export"), "{error}");
        assert_eq!(SecretFlags::default().variables(&project), ["NO_SUCH_VARIABLE_HERE"]);
    }

    #[test]
    fn an_error_cannot_command_the_terminal() {
        let error = anyhow::anyhow!("a\u{1b}[2J\u{202e}b\n  help: c\u{7}d").context("unpacking");
        assert_eq!(error_text(&error), "error: unpacking: ab\n  help: cd");
    }
}
