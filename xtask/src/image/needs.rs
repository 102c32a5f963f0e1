//! Tools of the host that templates need, derived from the features that the templates use.

use super::recipe::{Base, Recipe};
use crate::host::tools::packages::{Use, Uses};
use crate::manifest::{FileSource, Origin, Project, Template, VolumeKind};

/// Template features that need tools of the host only while a layer is built, not when it is used.
const TO_BUILD: [Use; 4] = [Use::Debian, Use::Tar, Use::Python, Use::Download];

/// Returns the features of all templates of a project that need tools of the host.
#[must_use]
pub fn uses(project: &Project) -> Uses {
    project.templates.values().flat_map(of_template).collect()
}

/// Returns the features of these templates that need tools of the host even when all layers are built already. [`super::ensure`] checks the
/// tools for building.
pub fn uses_to_run(project: &Project, names: &[String]) -> anyhow::Result<Uses> {
    let mut uses = Uses::new();
    for name in names {
        uses.extend(project.chain(name)?.into_iter().flat_map(of_template));
    }
    uses.retain(|feature| !TO_BUILD.contains(feature));
    Ok(uses)
}

/// Returns the features that need tools of the host while this layer is built.
pub(super) fn uses_to_build(recipe: &Recipe) -> Uses {
    let base = match recipe.base {
        Base::Debian(_) => Some(Use::Debian),
        Base::Tar { .. } => Some(Use::Tar),
        Base::Nothing | Base::Layer(_) => None,
    };
    let python = recipe.python.is_some().then_some(Use::Python);
    base.into_iter().chain(python).chain(downloads(recipe).then_some(Use::Download)).collect()
}

/// Tells whether building a layer downloads packages. Downloads by the template's `run` steps are unknown in advance.
pub(super) fn downloads(recipe: &Recipe) -> bool {
    matches!(recipe.base, Base::Debian(_)) || !recipe.packages.is_empty() || recipe.python.is_some()
}

fn of_template(template: &Template) -> Uses {
    let copies_busybox =
        template.files.iter().any(|file| matches!(&file.source, FileSource::Program(name) if name == "busybox"));
    let has_keys = !template.ssh.clients.is_empty() || !template.ssh.accepts.is_empty();
    let downloads =
        matches!(template.from, Origin::Debian(_)) || !template.packages.is_empty() || template.pip.is_some();
    let used = [
        (Use::Download, downloads),
        (Use::Debian, matches!(template.from, Origin::Debian(_))),
        (Use::Tar, matches!(template.from, Origin::Tar(_))),
        (Use::Python, template.pip.is_some()),
        (Use::Ssh, has_keys),
        (Use::Ext4, template.volumes.iter().any(|volume| volume.kind == VolumeKind::Ext4)),
        (Use::Busybox, copies_busybox),
    ];
    used.into_iter().filter_map(|(feature, is_used)| is_used.then_some(feature)).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    /// Creates a project with one template for each text.
    fn project(root: &Path, templates: &[(&str, &str)]) -> Project {
        fs::write(root.join("e2e.toml"), "name = 'x'\ncontainers = ['a']\n").unwrap();
        fs::create_dir_all(root.join("scenarios")).unwrap();
        for (name, text) in templates {
            let folder = root.join("containers").join(name);
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("template.toml"), format!("init = ['/bin/init']\n{text}")).unwrap();
        }
        Project::read(root).unwrap()
    }

    #[test]
    fn a_template_needs_the_tools_of_what_it_uses_and_of_what_it_is_built_on() {
        let root = tempfile::tempdir().unwrap();
        let busybox = "from = 'scratch'\n[[files]]\nprogram = 'busybox'\ntarget = '/bin/busybox'\n";
        let debian = "from = { debian = 'bookworm' }\n";
        let volume = "from = 'debian'\n[[volumes]]\npath = '/data'\nsize = '8M'\n";
        let memory = "from = 'busybox'\n[[volumes]]\npath = '/data'\nsize = '8M'\nkind = 'tmpfs'\n";
        let server = "from = 'busybox'\n[ssh]\naccepts = ['root']\n";
        let project = project(
            root.path(),
            &[("busybox", busybox), ("debian", debian), ("volume", volume), ("memory", memory), ("server", server)],
        );
        let check = |name: &str, expected: &[Use]| {
            let uses = uses_to_run(&project, &[name.to_owned()]).unwrap();
            assert_eq!(uses, expected.iter().copied().collect(), "{name}");
        };
        check("busybox", &[Use::Busybox]);
        check("memory", &[Use::Busybox]);
        check("server", &[Use::Busybox, Use::Ssh]);
        check("debian", &[]);
        check("volume", &[Use::Ext4]);
        assert_eq!(uses(&project), [Use::Debian, Use::Download, Use::Ssh, Use::Ext4, Use::Busybox].into());
        uses_to_run(&project, &["none".to_owned()]).unwrap_err();
    }
}
