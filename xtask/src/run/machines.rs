//! Machines of a lab, from templates and images.

use std::collections::BTreeMap;

use anyhow::Context as _;

use crate::image::{Image, ids_of};
use crate::lab::Machine;
use crate::manifest::Project;

/// Place of a machine in its lab.
#[derive(Debug, Clone, Copy)]
pub(super) struct Position<'a> {
    /// Name in the lab.
    pub name: &'a str,
    /// Index, from 0.
    pub index: usize,
    /// The lab's slot.
    pub slot: &'a str,
    /// Name on the host instead of the usual one.
    pub host_name: Option<&'a String>,
}

/// A machine of a template, in its place.
///
/// # Errors
/// When there is no such template, no image of it, or the slot is no lab's.
pub(super) fn machine(
    project: &Project,
    images: &BTreeMap<String, Image>,
    template: &str,
    position: Position<'_>,
) -> anyhow::Result<Machine> {
    let Position { name, index, slot, host_name } = position;
    let prefix = match slot {
        "1" => project.name.clone(),
        slot => format!("{}-{slot}", project.name),
    };
    let ids = ids_of(project);
    let image = images.get(template).with_context(|| format!("template {template} has no image"))?;
    Ok(Machine {
        name: name.to_owned(),
        host_name: host_name.cloned().unwrap_or_else(|| format!("{prefix}-{name}")),
        template: project.templates.get(template).with_context(|| format!("there is no template {template}"))?.clone(),
        layers: image.layers.clone(),
        first_ids: if ids.are_shared() { Vec::new() } else { image.first_ids.clone() },
        network: project.network,
        octet: project.address_octet(name, index),
        ids: ids.of_slot(slot)?,
    })
}
