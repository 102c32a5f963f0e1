//! What a lab showed at the end of a session that nobody asked for, told from what the scenario expects.

use super::requests::Session;
use crate::record::Event;

impl Session {
    /// Looks for findings and writes them down. The verdict stands without them.
    pub(super) fn record_findings(&self) {
        let mut kernel = self.kernel();
        for finding in self.lab.findings(kernel.as_mut()) {
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
                expected,
            });
        }
    }
}
