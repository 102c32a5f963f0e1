//! Thin layers that the engine puts on templates: files of its own, and a hook in each Python process. Nothing else of a template changes.

use std::path::Path;

use crate::manifest::{FileEntry, FileSource, Origin, Pip, Place, Project, RunStep, Template};
use crate::record::RunDir;

/// Source of the program that Python runs at its start, and that starts a hook.
pub(super) const SITECUSTOMIZE: &str = include_str!("../../hooks/sitecustomize.py");

/// Source of the part of the hooks that reads the source of modules.
pub(super) const SOURCE: &str = include_str!("../../hooks/source.py");

/// Files of the engine in a thin layer, kept in the folder of the run, so that its record contains them.
#[derive(Debug)]
pub(super) struct EngineFiles<'a> {
    pub dir: &'a RunDir,
    /// Name of the files' folder in the folder of the run.
    pub name: &'a str,
    /// Absolute path of the files' folder in the machine.
    pub folder: &'a str,
}

impl EngineFiles<'_> {
    /// Writes a file, and returns its entry in a template.
    pub fn file(&self, name: &str, text: &str, mode: Option<u32>) -> anyhow::Result<FileEntry> {
        let inside = Path::new(self.name).join(name);
        self.dir.write(&inside.to_string_lossy(), text.as_bytes())?;
        let source = FileSource::Path(self.dir.path().join(inside));
        Ok(FileEntry { source, target: format!("{}/{name}", self.folder), mode, owner: None, place: Place::default() })
    }

    /// Returns the files of a hook, and the step that installs them beside the Python packages. `words` are for the hook.
    pub fn hook(&self, hook: &str, pip: &Pip, words: &[&str]) -> anyhow::Result<(Vec<FileEntry>, RunStep)> {
        let files = [("sitecustomize.py", SITECUSTOMIZE), ("e2e_hook.py", hook), ("e2e_source.py", SOURCE)];
        let files = files.into_iter().map(|(name, text)| self.file(name, text, None)).collect::<Result<_, _>>()?;
        let program = format!("python{}", pip.python);
        let script = format!("{}/sitecustomize.py", self.folder);
        let install = ["/usr/bin/env", "HOME=/tmp", &program, &script, &pip.target];
        let words = install.iter().chain(words).map(|word| (*word).to_owned());
        Ok((files, RunStep::Program(words.collect())))
    }
}

/// Returns a template without content of its own, on the layer of `original`, whose machines run as those of `original` do.
pub(super) fn on(original: &Template, name: &str) -> Template {
    Template {
        name: name.to_owned(),
        from: Origin::Template(original.name.clone()),
        packages: Vec::new(),
        pip: None,
        users: Vec::new(),
        enable: Vec::new(),
        mask: Vec::new(),
        files: Vec::new(),
        run: Vec::new(),
        ..original.clone()
    }
}

/// Adds a template to a project, in place of the template `replaced` in every scenario.
pub(super) fn replace(project: &mut Project, replaced: &str, by: Template) {
    for container in project.scenarios.iter_mut().flat_map(|scenario| &mut scenario.containers) {
        if container.template == replaced {
            container.template.clone_from(&by.name);
        }
    }
    project.templates.insert(by.name.clone(), by);
}
