//! Machines of a lab: what they need from the host, and their descriptions from templates and images.

use std::collections::BTreeMap;

use anyhow::Context as _;

use crate::error::{Error, HostCause};
use crate::host::machine::budget::{Need, shortage};
use crate::image::{Image, ids_of};
use crate::lab::Machine;
use crate::manifest::{Init, Project, Template, VolumeKind};

/// Checks that the host has enough resources for machines of these templates in a lab of this slot.
///
/// # Errors
/// [`HostCause::Budget`] with the insufficient resource, and how to increase it.
pub(super) fn require_budgets<'a>(
    project: &Project,
    slot: &str,
    templates: impl Iterator<Item = &'a str>,
) -> anyhow::Result<()> {
    let templates = templates.filter_map(|name| project.templates.get(name));
    let ids = ids_of(project).of_slot(slot)?;
    let Some(shortage) = shortage(&need(templates, ids.first)) else { return Ok(()) };
    let detail = shortage.to_string();
    Err(Error::EveryCase { cause: HostCause::Budget, detail, help: shortage.help }.into())
}

fn need<'a>(templates: impl Iterator<Item = &'a Template>, first_id: u32) -> Need {
    let mut need = Need { root_id: first_id, ..Need::default() };
    for template in templates {
        need.machines += 1;
        need.systemd_machines += u64::from(template.init == Init::Systemd);
        need.images += template.volumes.iter().filter(|volume| volume.kind == VolumeKind::Ext4).count() as u64;
        need.memory_bytes = need.memory_bytes.saturating_add(template.limits.memory);
    }
    need
}

/// Position of a machine in its lab, which determines its names and address.
#[derive(Debug, Clone, Copy)]
pub(super) struct Position<'a> {
    pub name: &'a str,
    /// Index of the machine in its lab, from 0.
    pub index: usize,
    /// Slot of the lab.
    pub slot: &'a str,
    /// Name on the host that replaces the default one.
    pub host_name: Option<&'a String>,
}

/// Describes a machine from its template and its position in the lab.
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
    let image = images.get(template).with_context(|| format!("no layer of template {template} was prepared"))?;
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
