//! Check before a lab is made that this host has what the lab needs at least, of all that labs share.

use crate::error::{Error, HostCause};
use crate::host::budget::{Need, shortage};
use crate::image::ids_of;
use crate::manifest::{Init, Project, Template, VolumeKind};

/// Requires what machines of these templates need in a lab of this slot.
///
/// # Errors
/// [`HostCause::Budget`] with the budget that has too little left, and what gives it more.
pub(super) fn require<'a>(
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
