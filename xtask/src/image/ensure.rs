//! Layers that templates need: looking them up in the store, and building the missing ones.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::Context as _;
use serde::Serialize;

use super::build::{Job, Progress, build, memory_for_each};
use super::needs;
use super::recipe::{Base, Recipe, Sources};
use super::replacement::Replacement;
use super::store::{self, LayerLocks, LayerPlace, LayerRecord, Store, StoredLayer, ids_of};
use crate::host::container::ids::IdRange;
use crate::host::doctor::require_tools;
use crate::host::invoker::is_root;
use crate::manifest::{Origin, Project, Template};

/// Root filesystem of a template: its layers, ready to be used read-only.
#[derive(Debug, Clone)]
pub struct Image {
    pub template: String,
    /// Absolute paths of the layers' trees, lowest (base) first.
    pub layers: Vec<PathBuf>,
    /// On-disk user ids of root's files in each of `layers`.
    pub first_ids: Vec<u32>,
    /// Hash of the highest layer, which identifies the whole image.
    pub hash: String,
    /// True if this call built at least one of the layers.
    pub built: bool,
}

impl Image {
    /// Keeps the layers from being removed until the returned locks are dropped.
    ///
    /// # Errors
    /// When a layer was removed in the meantime.
    pub fn lock_shared(&self) -> anyhow::Result<LayerLocks> {
        store::lock_shared(&self.layers)
    }

    /// Debian's and Python's packages in all layers of the image, as `name=version`; of a package in several layers, the version of the
    /// highest.
    #[must_use]
    pub fn packages(&self) -> Vec<String> {
        store::packages(&self.layers)
    }
}

/// State of a layer that templates need.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LayerStatus {
    pub template: String,
    pub hash: String,
    /// True if nothing in the layer comes from outside the project, so that the hash is the same in every checkout.
    pub is_portable: bool,
    /// Content of the layer's `layer.json` in the store; `None` when the layer has to be built.
    pub stored: Option<LayerRecord>,
    /// Reason why the stored layer is unusable and has to be built again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub damage: Option<String>,
    /// True if the layer's state is unknown, because only root may read the store.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub hidden: bool,
}

/// Layer that a wanted template needs: the template's own layer, or the thin layer of `--set` that replaces packages.
#[derive(Debug)]
struct Planned<'a> {
    /// Name for reports: the template's name, followed by the names of the replaced packages.
    name: String,
    template: &'a Template,
    /// Replacements in a thin layer; empty for the template's own layer.
    replacements: Vec<&'a Replacement>,
    /// Index in the plan of the layer below; `None` for a lowest layer.
    parent: Option<usize>,
    recipe: Recipe,
    sources: Sources,
    hash: String,
    is_portable: bool,
    /// Number of layers below this one.
    depth: usize,
}

/// Layers that wanted templates need, lowest first.
#[derive(Debug, Default)]
struct LayerPlan<'a> {
    layers: Vec<Planned<'a>>,
    /// Index of each template's highest layer.
    tops: BTreeMap<&'a str, usize>,
}

/// Layers of a plan that are in the store, by their index, and true for those that were built just now.
type Stored = BTreeMap<usize, (StoredLayer, bool)>;

/// Builds the missing layers of all wanted templates; layers that do not depend on each other are built side by side. If none is missing,
/// reads only the templates' own files and the `layer.json` of each layer.
///
/// # Errors
/// [`Error::Build`](crate::error::Error::Build) for the first template that does not build; or for a file of the project that cannot be
/// read, or a missing tool of the host that building a layer needs. [`Error::Usage`](crate::error::Error::Usage) for a replacement whose
/// requirements the template does not meet.
pub fn ensure(
    project: &Project,
    wanted: &[String],
    replacements: &[Replacement],
    observe: &(dyn Fn(Progress) + Sync),
    interrupted: &(dyn Fn() -> bool + Sync),
) -> anyhow::Result<BTreeMap<String, Image>> {
    let ids = ids_of(project);
    let store = Store::of_this_machine().with_ids(&ids);
    store.close()?;
    let plan = LayerPlan::of(project, wanted, replacements)?;
    let mut stored = Stored::new();
    for depth in 0..=plan.layers.iter().map(|planned| planned.depth).max().unwrap_or(0) {
        let mut missing = Vec::new();
        for (index, planned) in plan.layers.iter().enumerate().filter(|(_, planned)| planned.depth == depth) {
            let parent_is_new =
                planned.parent.is_some_and(|parent| stored.get(&parent).is_some_and(|(_, built)| *built));
            match store.find(&planned.hash)? {
                Some(layer) if !parent_is_new => drop(stored.insert(index, (layer, false))),
                _ => missing.push(index),
            }
        }
        let uses = missing.iter().flat_map(|index| needs::uses_to_build(&plan.layers[*index].recipe)).collect();
        require_tools(&uses)?;
        let built = build_all(&store, ids.of_store(), &plan, &missing, &stored, observe, interrupted)?;
        stored.extend(built);
    }
    wanted.iter().map(|name| Ok((name.clone(), plan.image(name, &stored)?))).collect()
}

/// Returns the layers that the wanted templates need, lowest first, and their states. Changes nothing on disk.
pub fn status(project: &Project, wanted: &[String], replacements: &[Replacement]) -> anyhow::Result<Vec<LayerStatus>> {
    let mut store = Store::of_this_machine();
    if is_root() {
        store = store.with_ids(&ids_of(project));
    }
    let mut statuses = Vec::new();
    for planned in LayerPlan::of(project, wanted, replacements)?.layers {
        let (stored, damage, hidden) = match store.look(&planned.hash)? {
            LayerPlace::Empty => (None, None, false),
            LayerPlace::Hidden => (None, None, true),
            LayerPlace::Sound(layer) => (Some(layer.record), None, false),
            LayerPlace::Damaged(why) => (None, Some(why), false),
        };
        statuses.push(LayerStatus {
            template: planned.name,
            stored,
            damage,
            hidden,
            is_portable: planned.is_portable,
            hash: planned.hash,
        });
    }
    Ok(statuses)
}

/// Returns the hash of each wanted template's highest layer, which identifies its whole image. Builds nothing.
pub fn hashes(
    project: &Project,
    wanted: &[String],
    replacements: &[Replacement],
) -> anyhow::Result<BTreeMap<String, String>> {
    let plan = LayerPlan::of(project, wanted, replacements)?;
    let of = |name: &String| {
        let top = plan.tops.get(name.as_str()).context("a wanted template has no layer")?;
        Ok((name.clone(), plan.layers[*top].hash.clone()))
    };
    wanted.iter().map(of).collect()
}

impl<'a> LayerPlan<'a> {
    fn of(project: &'a Project, wanted: &[String], replacements: &'a [Replacement]) -> anyhow::Result<Self> {
        let mut plan = Self::default();
        for name in wanted {
            for template in project.chain(name)? {
                if plan.tops.contains_key(template.name.as_str()) {
                    continue;
                }
                let below = match &template.from {
                    Origin::Template(parent) => plan.tops.get(parent.as_str()).copied(),
                    _ => None,
                };
                let mut top = plan.add(project, template, below, Vec::new())?;
                let mut own: Vec<_> = replacements.iter().filter(|one| one.template == template.name).collect();
                if !own.is_empty() {
                    own.sort_by(|one, other| one.package.cmp(&other.package));
                    top = plan.add(project, template, Some(top), own)?;
                }
                plan.tops.insert(&template.name, top);
            }
        }
        Ok(plan)
    }

    /// Adds a layer of a template to the plan, on the layer with index `below`; returns the new layer's index.
    fn add(
        &mut self,
        project: &Project,
        template: &'a Template,
        below: Option<usize>,
        replacements: Vec<&'a Replacement>,
    ) -> anyhow::Result<usize> {
        let parent = below.map(|below| &self.layers[below]);
        let (recipe, sources) = recipe(template, parent.map(|parent| parent.hash.as_str()), &replacements)?;
        let packages = replacements.iter().map(|one| one.package.as_str());
        let planned = Planned {
            name: std::iter::once(template.name.as_str()).chain(packages).collect::<Vec<_>>().join("+"),
            template,
            replacements,
            parent: below,
            hash: recipe.hash(),
            is_portable: Recipe::is_portable(project, &sources) && parent.is_none_or(|parent| parent.is_portable),
            depth: parent.map_or(0, |parent| parent.depth + 1),
            recipe,
            sources,
        };
        self.layers.push(planned);
        Ok(self.layers.len() - 1)
    }

    /// Returns the stored layers from the lowest up to this one.
    fn up_to<'s>(&self, index: usize, stored: &'s Stored) -> anyhow::Result<Vec<&'s (StoredLayer, bool)>> {
        let mut layers = Vec::new();
        let mut next = Some(index);
        while let Some(index) = next {
            layers.push(stored.get(&index).context("a layer that the template needs was not built")?);
            next = self.layers[index].parent;
        }
        layers.reverse();
        Ok(layers)
    }

    fn image(&self, name: &str, stored: &Stored) -> anyhow::Result<Image> {
        let top = *self.tops.get(name).context("a wanted template has no layer")?;
        let layers = self.up_to(top, stored)?;
        Ok(Image {
            template: name.to_owned(),
            layers: layers.iter().map(|(layer, _)| layer.root()).collect(),
            first_ids: layers.iter().map(|(layer, _)| layer.record.first_id).collect(),
            hash: self.layers[top].hash.clone(),
            built: layers.iter().any(|(_, built)| *built),
        })
    }
}

/// Returns the recipe of a template's own layer, or of the thin layer that replaces packages in it.
fn recipe(
    template: &Template,
    hash_below: Option<&str>,
    replacements: &[&Replacement],
) -> anyhow::Result<(Recipe, Sources)> {
    match (replacements, hash_below) {
        ([_, ..], Some(below)) => Recipe::replacing(template, below, replacements),
        _ => Recipe::of(template, hash_below),
    }
}

/// Builds layers that do not depend on each other side by side; returns the first failure, after all builds have ended.
fn build_all(
    store: &Store,
    ids: IdRange,
    plan: &LayerPlan<'_>,
    missing: &[usize],
    below: &Stored,
    observe: &(dyn Fn(Progress) + Sync),
    interrupted: &(dyn Fn() -> bool + Sync),
) -> anyhow::Result<Stored> {
    let is_heavy = |planned: &Planned<'_>| planned.recipe.base != Base::Nothing;
    let heavy = missing.iter().filter(|index| is_heavy(&plan.layers[**index])).count();
    let memory_bytes = memory_for_each(heavy);
    let build_one = |index: usize| {
        let planned = &plan.layers[index];
        let lowers = planned.parent.map_or(Ok(Vec::new()), |parent| plan.up_to(parent, below))?;
        let job = Job {
            template: &planned.name,
            hash: &planned.hash,
            recipe: &planned.recipe,
            sources: &planned.sources,
            lowers: lowers.iter().map(|(layer, _)| layer.root()).collect(),
            first_ids: lowers.iter().map(|(layer, _)| layer.record.first_id).collect(),
            ids,
            memory_bytes: memory_bytes.filter(|_| is_heavy(planned)),
        };
        let hash_below = planned.parent.map(|parent| plan.layers[parent].hash.as_str());
        let unchanged = || Ok(recipe(planned.template, hash_below, &planned.replacements)?.0 == planned.recipe);
        build(store, &job, &unchanged, observe, interrupted)
    };
    std::thread::scope(|scope| {
        let build_one = &build_one;
        let threads: Vec<_> = missing.iter().map(|index| (*index, scope.spawn(move || build_one(*index)))).collect();
        let outcomes: Vec<_> = threads.into_iter().map(|(index, thread)| (index, thread.join())).collect();
        let mut built = Stored::new();
        for (index, outcome) in outcomes {
            built.insert(index, outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic))?);
        }
        Ok(built)
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_replacement_leaves_the_templates_layer_and_lies_below_what_is_built_on_it() {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in [
            ("e2e.toml", "name = 'x'"),
            (
                "containers/app/template.toml",
                "from = 'scratch'\ninit = ['/i']\n[pip]\nrequirements = 'r.txt'\ntarget = '/opt'\npython = '3.11'\n",
            ),
            ("containers/app/r.txt", "a==1 --hash=sha256:aa\nb==1 --hash=sha256:bb\n"),
            ("containers/above/template.toml", "from = 'app'\ninit = ['/i']\n"),
            ("containers/other/template.toml", "from = 'scratch'\ninit = ['/i']\n"),
            ("scenarios/.keep", ""),
            ("tree/pyproject.toml", "1"),
        ] {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let project = Project::read(folder.path()).unwrap();
        let wanted = ["above", "app", "other"].map(str::to_owned);
        let replacement = |package: &str| Replacement {
            template: "app".into(),
            package: package.into(),
            path: folder.path().join("tree"),
        };
        let (a, b) = (replacement("a"), replacement("b"));
        let plain = LayerPlan::of(&project, &wanted, &[]).unwrap();
        let both = [b.clone(), a.clone()];
        let plan = LayerPlan::of(&project, &wanted, &both).unwrap();
        let names: Vec<(&str, Option<usize>)> =
            plan.layers.iter().map(|planned| (planned.name.as_str(), planned.parent)).collect();
        assert_eq!(names, [("app", None), ("app+a+b", Some(0)), ("above", Some(1)), ("other", None)]);
        assert_eq!(plan.layers[0].hash, plain.layers[0].hash, "packages and dependencies are not installed again");
        let tops = |replacements: &[Replacement]| hashes(&project, &wanted, replacements).unwrap();
        assert_eq!(tops(&[a.clone(), b.clone()]), tops(&both), "the order of the flags makes no difference");
        let (before, now) = (tops(&[]), tops(&both));
        assert_eq!(before["app"], plain.layers[0].hash);
        assert_eq!(now["app"], plan.layers[1].hash);
        for (name, is_same) in [("app", false), ("above", false), ("other", true)] {
            assert_eq!(before[name] == now[name], is_same, "{name}");
        }
    }
}
