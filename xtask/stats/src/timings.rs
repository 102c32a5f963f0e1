//! Times of an operation's repetitions, as they are kept in a baseline and judged.

use serde::{Deserialize, Serialize};

/// Kind of compared time; samples and calibration are of the same kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Time from start to end.
    Wall,
    /// Time on processors.
    Processor,
}

/// Times of one operation: as many values in each list as there are samples, in the order in which they were taken.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Timings {
    /// Wall time.
    pub wall_ms: Vec<f64>,
    /// Processor time of all containers.
    pub cpu_ms: Vec<f64>,
    /// Time for which programs of the containers waited for a processor; `None` where the kernel does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait_ms: Option<Vec<f64>>,
    /// Wall time of the fixed work before each sample.
    pub calibration_wall_ms: Vec<f64>,
    /// Processor time of the fixed work before each sample.
    pub calibration_cpu_ms: Vec<f64>,
}

impl Timings {
    /// Returns every list with its name.
    pub fn lists(&self) -> impl Iterator<Item = (&'static str, &[f64])> {
        let always = [
            ("wall_ms", &*self.wall_ms),
            ("cpu_ms", &*self.cpu_ms),
            ("calibration_wall_ms", &*self.calibration_wall_ms),
            ("calibration_cpu_ms", &*self.calibration_cpu_ms),
        ];
        always.into_iter().chain(self.wait_ms.as_deref().map(|list| ("wait_ms", list)))
    }

    /// Returns the number of samples.
    #[must_use]
    pub fn count(&self) -> usize {
        self.wall_ms.len()
    }

    /// Returns the samples of one kind.
    #[must_use]
    pub fn samples(&self, kind: Kind) -> &[f64] {
        match kind {
            Kind::Wall => &self.wall_ms,
            Kind::Processor => &self.cpu_ms,
        }
    }

    /// Returns the times of the fixed work of one kind.
    #[must_use]
    pub fn calibration(&self, kind: Kind) -> &[f64] {
        match kind {
            Kind::Wall => &self.calibration_wall_ms,
            Kind::Processor => &self.calibration_cpu_ms,
        }
    }

    /// Returns the operation's time on processors / its wall time, summed over all samples; not finite where the samples have no time.
    #[must_use]
    pub fn busy(&self) -> f64 {
        self.cpu_ms.iter().sum::<f64>() / self.wall_ms.iter().sum::<f64>()
    }

    /// Returns the share of the programs' runnable time, 0 to 1, in which they waited for a processor; `None` where that is not known.
    #[must_use]
    pub fn waited(&self) -> Option<f64> {
        let waited: f64 = self.wait_ms.as_ref()?.iter().sum();
        Some(waited / (waited + self.cpu_ms.iter().sum::<f64>())).filter(|share| share.is_finite())
    }
}
