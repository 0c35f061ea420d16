//! The metrics of this process, in Prometheus' text format.

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};

use crate::QueryError;

/// Bounds of the buckets of every `…_seconds` histogram.
const SECONDS: [f64; 14] = [0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

/// Renders what every crate of the process records.
#[derive(Clone, Debug)]
pub struct Metrics(PrometheusHandle);

impl Metrics {
    /// Makes this the recorder of the process. Once, before anything is recorded.
    ///
    /// # Errors
    /// Where there is a recorder already.
    pub fn install() -> Result<Self, QueryError> {
        let failed = |e: &dyn std::fmt::Display| QueryError::Internal(format!("metrics: {e}"));
        let suffix = metrics_exporter_prometheus::Matcher::Suffix("_seconds".to_owned());
        let builder = PrometheusBuilder::new().set_buckets_for_metric(suffix, &SECONDS).map_err(|e| failed(&e))?;
        builder.install_recorder().map(Self).map_err(|e| failed(&e))
    }

    /// The page for `/metrics`.
    pub fn render(&self) -> String {
        self.0.run_upkeep();
        self.0.render()
    }
}
