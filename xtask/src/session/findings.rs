//! What a lab showed at the end of a session that nobody asked for, told from what the scenario expects.

use super::state::Session;
use crate::host::kmsg::KernelWatch;
use crate::record::{Event, milliseconds};

impl Session {
    /// Looks for findings and writes them down. The verdict stands without them.
    pub(super) fn record_findings(&self) {
        let said = self.kernel().map(KernelWatch::so_far).unwrap_or_default();
        for finding in self.lab.findings(&said) {
            let kind = finding.kind.name();
            let covers = |expected: &crate::manifest::Expected| {
                expected.covers(kind, finding.container.as_deref(), &finding.about)
            };
            let expected = self.spec.expects.iter().any(covers);
            self.recorder.record(Event::Finding {
                case: self.spec.case.clone(),
                kind: kind.to_owned(),
                container: finding.container,
                about: finding.about,
                detail: finding.detail,
                happened_at_ms: finding.age.map(|age| milliseconds(self.recorder.elapsed().saturating_sub(age))),
                expected,
            });
        }
    }
}
