//! Layers that templates need: looking them up in the store, and building the missing ones.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::Context as _;
use serde::Serialize;

use super::build::{Job, Progress, build, memory_for_each};
use super::needs::{self, chain};
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

/// Layer that a wanted template needs, with its recipe and its distance from the base.
#[derive(Debug)]
struct Planned<'a> {
    template: &'a Template,
    parent: Option<&'a str>,
    recipe: Recipe,
    sources: Sources,
    hash: String,
    is_portable: bool,
    depth: usize,
}

/// Builds the missing layers of all wanted templates; layers that do not depend on each other are built side by side. If none is missing,
/// reads only the templates' own files and the `layer.json` of each layer.
///
/// # Errors
/// [`Error::Build`](crate::error::Error::Build) for the first template that does not build; or for a file of the project that cannot be
/// read, or a missing tool of the host that building a layer needs.
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
    let plan = plan(project, wanted, replacements)?;
    let mut layers: BTreeMap<&str, (StoredLayer, bool)> = BTreeMap::new();
    for depth in 0..=plan.iter().map(|planned| planned.depth).max().unwrap_or(0) {
        let mut missing = Vec::new();
        for planned in plan.iter().filter(|planned| planned.depth == depth) {
            let parent_is_new =
                planned.parent.is_some_and(|parent| layers.get(parent).is_some_and(|(_, built)| *built));
            match store.find(&planned.hash)? {
                Some(layer) if !parent_is_new => drop(layers.insert(&planned.template.name, (layer, false))),
                _ => missing.push(planned),
            }
        }
        let uses = missing.iter().flat_map(|planned| needs::uses_to_build(&planned.recipe)).collect();
        require_tools(&uses)?;
        for (planned, layer) in
            build_all(&store, (project, ids.of_store()), replacements, &missing, &layers, observe, interrupted)?
        {
            layers.insert(&planned.template.name, layer);
        }
    }
    wanted.iter().map(|name| Ok((name.clone(), image(project, name, &layers)?))).collect()
}

/// Returns the layers that the wanted templates need, lowest first, and their states. Changes nothing on disk.
pub fn status(project: &Project, wanted: &[String], replacements: &[Replacement]) -> anyhow::Result<Vec<LayerStatus>> {
    let mut store = Store::of_this_machine();
    if is_root() {
        store = store.with_ids(&ids_of(project));
    }
    let mut statuses = Vec::new();
    for planned in plan(project, wanted, replacements)? {
        let (stored, damage, hidden) = match store.look(&planned.hash)? {
            LayerPlace::Empty => (None, None, false),
            LayerPlace::Hidden => (None, None, true),
            LayerPlace::Sound(layer) => (Some(layer.record), None, false),
            LayerPlace::Damaged(why) => (None, Some(why), false),
        };
        statuses.push(LayerStatus {
            template: planned.template.name.clone(),
            stored,
            damage,
            hidden,
            is_portable: planned.is_portable,
            hash: planned.hash,
        });
    }
    Ok(statuses)
}

fn plan<'a>(project: &'a Project, wanted: &[String], replacements: &[Replacement]) -> anyhow::Result<Vec<Planned<'a>>> {
    let mut plan: Vec<Planned<'a>> = Vec::new();
    for name in wanted {
        for template in chain(project, name)? {
            if plan.iter().any(|planned| planned.template.name == template.name) {
                continue;
            }
            let parent = match &template.from {
                Origin::Template(parent) => plan.iter().find(|planned| planned.template.name == *parent),
                _ => None,
            };
            let (recipe, sources) = Recipe::of(template, parent.map(|parent| parent.hash.as_str()), replacements)?;
            let planned = Planned {
                template,
                parent: parent.map(|parent| parent.template.name.as_str()),
                hash: recipe.hash(),
                is_portable: Recipe::is_portable(project, &sources) && parent.is_none_or(|parent| parent.is_portable),
                depth: parent.map_or(0, |parent| parent.depth + 1),
                recipe,
                sources,
            };
            plan.push(planned);
        }
    }
    Ok(plan)
}

fn image(project: &Project, name: &str, layers: &BTreeMap<&str, (StoredLayer, bool)>) -> anyhow::Result<Image> {
    let (hash, layers_of) = (String::new(), Vec::new());
    let mut image = Image { template: name.to_owned(), layers: layers_of, first_ids: Vec::new(), hash, built: false };
    for template in chain(project, name)? {
        let (layer, built) =
            layers.get(template.name.as_str()).context("a layer that the template needs was not built")?;
        image.layers.push(layer.root());
        image.first_ids.push(layer.record.first_id);
        image.hash.clone_from(&layer.record.hash);
        image.built |= built;
    }
    Ok(image)
}

type Built<'p, 'a> = Vec<(&'p Planned<'a>, (StoredLayer, bool))>;

/// Builds layers that do not depend on each other side by side; returns the first failure, after all builds have ended.
fn build_all<'p, 'a>(
    store: &Store,
    (project, ids): (&Project, IdRange),
    replacements: &[Replacement],
    missing: &[&'p Planned<'a>],
    below: &BTreeMap<&str, (StoredLayer, bool)>,
    observe: &(dyn Fn(Progress) + Sync),
    interrupted: &(dyn Fn() -> bool + Sync),
) -> anyhow::Result<Built<'p, 'a>> {
    let heavy = missing.iter().filter(|planned| planned.recipe.base != Base::Nothing).count();
    let memory_bytes = memory_for_each(heavy);
    let build_one = |planned: &Planned<'_>| {
        let (mut lowers, mut first_ids) = (Vec::new(), Vec::new());
        for template in chain(project, &planned.template.name)? {
            let Some((layer, _)) = below.get(template.name.as_str()) else { continue };
            lowers.push(layer.root());
            first_ids.push(layer.record.first_id);
        }
        let job = Job {
            template: &planned.template.name,
            hash: &planned.hash,
            recipe: &planned.recipe,
            sources: &planned.sources,
            lowers,
            first_ids,
            ids,
            memory_bytes: memory_bytes.filter(|_| planned.recipe.base != Base::Nothing),
        };
        let parent_hash = if let Base::Layer(hash) = &planned.recipe.base { Some(hash.as_str()) } else { None };
        let unchanged = || Ok(Recipe::of(planned.template, parent_hash, replacements)?.0 == planned.recipe);
        build(store, &job, &unchanged, observe, interrupted)
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = missing.iter().map(|planned| (*planned, scope.spawn(|| build_one(planned)))).collect();
        let outcomes: Vec<_> = threads.into_iter().map(|(planned, thread)| (planned, thread.join())).collect();
        let mut built = Vec::new();
        for (planned, outcome) in outcomes {
            let layer = outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
            built.push((planned, layer));
        }
        Ok(built)
    })
}
