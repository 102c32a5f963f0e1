//! Measured operations of a scenario: their beginnings, their ends, and time that does not count against the scenario's deadline.

use std::time::{Duration, Instant};

use e2e_contract::{Done, ErrorCode, MeasureBegin, MeasureEnd, Measured, Measurement, Metric, RpcError, check_name};

use super::state::{Answer, Open, Session};
use crate::perf::calibrate;
use crate::record::{Calibration, Event, Sample, milliseconds};

impl Session {
    /// Answers the request `measure.begin`. The counters are read last, so that no work of the engine is measured.
    pub(super) fn measure_begin(&self, begin: MeasureBegin) -> Answer<Measurement> {
        let MeasureBegin { operation, repetitions } = begin;
        require_name("operation", &operation)?;
        if let Some(gate) = &self.spec.gate {
            self.excuse(|| gate.begin(&operation, repetitions, &|| self.shall_stop()));
        }
        let (measurement, calibration, shall_calibrate) = {
            let mut state = self.state();
            state.measurements_begun += 1;
            let measurement = state.measurements_begun;
            let outer = state.measurements.values().next_back();
            let parent = outer.map(|outer| outer.operation.clone());
            // Work between start and end of another sample would be in that one: it lends its own calibration.
            let lender = state.measurements.values().rev().find(|outer| outer.repetitions > 1);
            let lent = lender.and_then(|lender| lender.calibration);
            let shall_calibrate =
                self.spec.calibrate && repetitions > 1 && lender.is_none() && !state.calibration_failed;
            let calibration = lent.filter(|_| repetitions > 1);
            let watch = self.lab.clock().watch();
            let open = Open { operation, repetitions, parent, begun_ms: 0.0, watch, calibration };
            state.measurements.insert(measurement, open);
            (measurement, calibration, shall_calibrate)
        };
        let calibration = if shall_calibrate { self.excuse(|| self.calibrate()) } else { calibration };
        self.meters.begin(measurement);
        if let Some(open) = self.state().measurements.get_mut(&measurement) {
            open.calibration = calibration;
            open.begun_ms = milliseconds(self.recorder.elapsed());
        }
        Ok(Measurement { measurement })
    }

    /// Returns the time that does not count against the scenario's deadline: waits imposed by a comparison, and pauses of the case.
    pub(super) fn excused(&self) -> Duration {
        let state = self.state();
        let waits = state.waits_since.map_or(Duration::ZERO, |since| since.elapsed());
        state.excused + waits + self.lab.clock().held()
    }

    /// Calls `work` that the scenario has not requested, and extends the scenario's deadline by the time that it takes.
    pub(super) fn excuse<T>(&self, work: impl FnOnce() -> T) -> T {
        let begun = Instant::now();
        self.state().waits_since = Some(begun);
        let done = work();
        let mut state = self.state();
        state.waits_since = None;
        state.excused += begun.elapsed();
        done
    }

    /// Runs the calibration workload. On failure, warns and returns `None`: then samples have no calibration.
    pub(super) fn calibrate(&self) -> Option<Calibration> {
        calibrate(&self.lab, &self.meters).unwrap_or_else(|error| {
            self.state().calibration_failed = true;
            self.recorder.record(Event::Warning { message: format!("the samples have no calibration: {error:#}") });
            None
        })
    }

    /// Answers the request `measure.end`. The counters are read first, so that no work of the engine is measured.
    pub(super) fn measure_end(&self, end: &MeasureEnd) -> Answer<Measured> {
        let used = self.meters.end(end.measurement);
        let mut state = self.state();
        let (Some(open), Some(used)) = (state.measurements.remove(&end.measurement), used) else {
            let message = format!("measurement {} is not open", end.measurement);
            return Err(RpcError::new(ErrorCode::InvalidParams, message));
        };
        let Open { operation, repetitions, parent, begun_ms, watch, calibration } = open;
        let duration_ms = end.duration_ms;
        let wall_ms = (duration_ms * 1e3).round() / 1e3;
        // A time in which somebody looked at a failure says nothing of the operation.
        let counts = end.succeeded && watch.was_held().is_zero();
        let sample = counts.then_some(Sample { begun_ms, wall_ms, calibration, ..used });
        let repetition = state.performance.add(&operation, repetitions, parent, sample.clone());
        let mut more = state.repetition_plan.after(&operation, repetitions, end.succeeded, Instant::now());
        if repetition >= repetitions {
            state.excused += Duration::from_secs_f64(duration_ms.max(0.0) / 1e3);
        }
        drop(state);
        if let Some(gate) = &self.spec.gate {
            let wish = self.excuse(|| gate.end(&operation, sample.as_ref(), &|| self.shall_stop()));
            more = wish.map_or(more, |wish| wish && end.succeeded);
        }
        let case = self.spec.case.clone();
        self.recorder.record(Event::Operation { case, operation, repetition, duration_ms, succeeded: end.succeeded });
        Ok(Measured { more })
    }

    pub(super) fn metric(&self, metric: Metric) -> Answer<Done> {
        require_name("metric", &metric.name)?;
        self.state().performance.add_metric(&metric).map_err(|why| RpcError::new(ErrorCode::InvalidParams, why))?;
        self.recorder.record(Event::Metric { case: self.spec.case.clone(), metric });
        Ok(Done {})
    }
}

fn require_name(what: &str, name: &str) -> Answer<()> {
    check_name(name).map_err(|why| RpcError::new(ErrorCode::InvalidParams, format!("{what} {why}")))
}
