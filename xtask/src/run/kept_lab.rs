//! Kept labs without a scenario: created by `up`, and left running until they are taken down.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::interrupt::Interrupt;
use super::machines::{Position, machine, require_budgets};
use super::not_ready::{NotReadyLab, keep_logs};
use super::slot_lease;
use crate::error::Error;
use crate::guard::{Slot, Stay, Wait};
use crate::image::{self, Image, Progress};
use crate::lab::{Lab, Moment, isolation_problems};
use crate::manifest::{MACHINES_MAX, Project, Template, is_name, nearest, too_many_machines};

/// Specification of a kept lab to create.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptLabSpec {
    /// Containers to create: each one's name in the lab, and its template.
    pub machines: Vec<(String, String)>,
    /// Purpose of the lab, as lists of labs show it.
    pub purpose: String,
}

/// Kept lab that was created and is ready.
#[derive(Debug, Clone, Copy)]
pub struct KeptLab {
    /// Time from the start of the lab until the probes of all containers had passed.
    pub ready_after: Duration,
}

impl KeptLabSpec {
    /// Plans one container for each named template, or the containers of the named scenario. The containers get the names in `names`, by
    /// position, or keep their own names if it is empty.
    ///
    /// # Errors
    /// [`Error::Usage`] for a word that is neither a template nor a scenario, or for invalid container names.
    pub fn plan(project: &Project, words: &[String], names: &[String]) -> Result<Self, Error> {
        let machines = match words {
            [word] if !project.templates.contains_key(word) => of_scenario(project, word)?,
            words => of_templates(project, words)?,
        };
        if machines.len() > MACHINES_MAX {
            return Err(Error::Usage(format!("{} machines: {}", machines.len(), too_many_machines())));
        }
        let machines = if names.is_empty() { machines } else { renamed(machines, names)? };
        Ok(Self { machines, purpose: format!("up {}", words.join(" ")) })
    }
}

fn of_scenario(project: &Project, word: &str) -> Result<Vec<(String, String)>, Error> {
    let mut found = project.scenarios.iter().filter(|scenario| scenario.id() == word || scenario.name == word);
    match (found.next(), found.next()) {
        (Some(scenario), None) => {
            Ok(scenario.containers.iter().map(|used| (used.name.clone(), used.template.clone())).collect())
        }
        (Some(one), Some(other)) => {
            Err(Error::Usage(format!("{word:?} is ambiguous: write {} or {}", one.id(), other.id())))
        }
        (None, _) => Err(unknown(project, word)),
    }
}

fn of_templates(project: &Project, words: &[String]) -> Result<Vec<(String, String)>, Error> {
    let mut machines: Vec<(String, String)> = Vec::new();
    for word in words {
        if !project.templates.contains_key(word) {
            if project.scenarios.iter().any(|scenario| scenario.id() == *word || scenario.name == *word) {
                let message = format!("{word} is a scenario: name one scenario alone, or any number of templates");
                return Err(Error::Usage(message));
            }
            return Err(unknown(project, word));
        }
        let before = machines.iter().filter(|(_, template)| template == word).count();
        let name = if before == 0 { word.clone() } else { format!("{word}-{}", before + 1) };
        machines.push((name, word.clone()));
    }
    Ok(machines)
}

fn unknown(project: &Project, word: &str) -> Error {
    let templates: Vec<&str> = project.templates.keys().map(String::as_str).collect();
    let scenarios = project.scenarios.iter().map(|scenario| scenario.name.as_str());
    let hint = nearest(word, templates.iter().copied().chain(scenarios)).map_or_else(
        || format!("the templates are {}, and `cargo xtask e2e --list` shows the scenarios", templates.join(", ")),
        |near| format!("did you mean {near}?"),
    );
    Error::Usage(format!("{word:?} is neither a template nor a scenario: {hint}"))
}

fn renamed(machines: Vec<(String, String)>, names: &[String]) -> Result<Vec<(String, String)>, Error> {
    if names.len() != machines.len() {
        let message =
            format!("--name has {} names for {} containers: give one name for each", names.len(), machines.len());
        return Err(Error::Usage(message));
    }
    let mut known = BTreeSet::new();
    for name in names {
        if !is_name(name) {
            let message = format!(
                "--name: {name:?} is no name for a container: use a lowercase letter, then lowercase letters, digits, '-' or '_', 32 characters at most"
            );
            return Err(Error::Usage(message));
        }
        if !known.insert(name) {
            return Err(Error::Usage(format!("--name: {name:?} is given twice")));
        }
    }
    Ok(names.iter().cloned().zip(machines).map(|(name, (_, template))| (name, template)).collect())
}

/// Creates a planned lab, waits until it is ready, and leaves it to its guard.
///
/// # Errors
/// When an image cannot be built, the slot is not available, or a container does not become ready: then the lab is taken down.
pub fn create_kept_lab(
    project: &Project,
    plan: &KeptLabSpec,
    (slot, wait, stay): (&str, Wait, Stay),
    interrupt: &Interrupt,
    tell: &(dyn Fn(String) + Sync),
) -> anyhow::Result<KeptLab> {
    require_budgets(project, slot, plan.machines.iter().map(|(_, template)| template.as_str()))?;
    let templates: BTreeSet<String> = plan.machines.iter().map(|(_, template)| template.clone()).collect();
    let templates: Vec<String> = templates.into_iter().collect();
    for name in templates.iter().filter(|name| project.templates.get(*name).is_some_and(|it| it.privileged)) {
        tell(format!("containers of template {name} are privileged: root in them is root on this host"));
    }
    for name in &templates {
        if let Some(allowed) = project.templates.get(name).and_then(Template::allowed_words) {
            tell(format!(
                "containers of template {name} may use parts of the kernel that other containers may not: {allowed}"
            ));
        }
    }
    isolation_problems().into_iter().for_each(tell);
    let observe = |event: Progress| match event {
        Progress::Waiting { template, what } => tell(format!("template {template}: {what}")),
        Progress::Building { template, step } => tell(format!("template {template}: {step}")),
        Progress::Built { template, .. } => tell(format!("template {template}: built")),
    };
    let interrupted = || interrupt.is_set();
    let images = image::ensure(project, &templates, &[], &observe, &interrupted)?;
    let _locks = images.values().map(Image::lock_shared).collect::<anyhow::Result<Vec<_>>>()?;
    let guard =
        Arc::new(slot_lease::take(&Slot::named(slot), &plan.purpose, wait, &|reason| tell(reason), &interrupted)?);
    let mut machines = Vec::new();
    for (index, (name, template)) in plan.machines.iter().enumerate() {
        machines.push(machine(project, &images, template, Position { name, index, slot, host_name: None })?);
    }
    let moment = |moment: Moment| match moment {
        Moment::Started { .. } => {}
        Moment::Unfiltered { container, missing } => tell(format!("{container}: {missing}")),
        Moment::Ready { container, after } => tell(format!("{container} ready after {:.3} s", after.as_secs_f64())),
    };
    let lab = Lab::start(&guard, &machines, &moment)?;
    if let Err(error) = lab.wait_until_ready(&moment, &interrupted) {
        let error = NotReadyLab::explain(&lab, error).into_error();
        return Err(match keep_logs(&project.root, slot, &lab) {
            Ok(folder) => error.context(format!("the lab did not become ready; its logs: {}", folder.display())),
            Err(kept) => {
                error.context(format!("the lab did not become ready, and its logs could not be kept: {kept:#}"))
            }
        });
    }
    guard.keep(stay)?;
    Ok(KeptLab { ready_after: lab.age() })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn check(words: &[&str], names: &[&str], expected: &str) {
        let project = Project::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/project")).unwrap();
        let owned = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let shown = match KeptLabSpec::plan(&project, &owned(words), &owned(names)) {
            Ok(plan) => {
                plan.machines.iter().map(|(name, template)| format!("{name}={template}")).collect::<Vec<_>>().join(" ")
            }
            Err(error) => error.to_string(),
        };
        assert!(shown.contains(expected), "{words:?} {names:?}: {shown}");
    }

    #[test]
    fn templates_may_be_named_twice_and_a_scenario_alone() {
        check(&["mini"], &[], "mini=mini");
        check(&["mini", "minidisk", "mini"], &[], "mini=mini minidisk=minidisk mini-2=mini");
        check(&["mini", "mini"], &["a", "b"], "a=mini b=mini");
        check(&["three_machines"], &[], "a=mini b=mini c=mini");
        check(&["smoke/three_machines"], &[], "a=mini b=mini c=mini");
        check(&["mini", "three_machines"], &[], "three_machines is a scenario: name one scenario alone");
        check(&["minni"], &[], "did you mean mini?");
        check(&["zebra_crossing"], &[], "the templates are ");
        check(&["mini"], &["a", "b"], "2 names for 1 containers");
        check(&["mini", "mini"], &["a", "a"], "is given twice");
        check(&["mini"], &["A/b"], "is no name");
    }
}
