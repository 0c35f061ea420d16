//! The confidence model: one documented file of weights, and the arithmetic from evidence to a band.
//!
//! Oracles compute the same in SQL over the table `model` (kind, weight, spread, prior): see [`Model::rows`].

use serde::Deserialize;

use crate::fact::EvidenceKind;

/// The model that is shipped.
pub const DEFAULT: &str = include_str!("../model/default.toml");

/// Weight of one kind of evidence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
pub struct Weight {
    /// Log-odds, thousandths of a nat.
    pub weight: i64,
    /// Standard deviation of the weight, thousandths of a nat.
    pub spread: i64,
}

/// A model: prior and weights.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Model {
    /// Name of the model, kept with every commit.
    pub name: String,
    /// Prior log-odds, thousandths of a nat.
    pub prior_millinats: i64,
    weights: Vec<Weight>,
}

/// A model file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// Not the expected TOML.
    #[error("model file: {0}")]
    Toml(#[from] toml::de::Error),
    /// A kind of evidence has no weight, or one that does not exist has.
    #[error("model file: weights must name each kind of evidence once; {0}")]
    Kinds(String),
}

/// A probability and its band, in basis points.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Band {
    /// Probability.
    pub confidence_bps: i64,
    /// Low end.
    pub low_bps: i64,
    /// High end.
    pub high_bps: i64,
}

impl Band {
    /// What needs no inference: stated by the tool that owns it.
    pub const CERTAIN: Band = Band { confidence_bps: 10_000, low_bps: 10_000, high_bps: 10_000 };
}

impl Model {
    /// Reads a model file.
    ///
    /// # Errors
    /// Where it is not TOML of the expected shape, or does not name each kind of evidence once.
    pub fn parse(text: &str) -> Result<Self, ModelError> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct File {
            name: String,
            prior_millinats: i64,
            weights: std::collections::BTreeMap<String, Weight>,
        }
        let file: File = toml::from_str(text)?;
        let mut weights = Vec::new();
        for kind in EvidenceKind::ALL {
            match file.weights.get(kind.word()) {
                Some(w) => weights.push(*w),
                None => return Err(ModelError::Kinds(format!("{kind} is missing"))),
            }
        }
        if let Some(odd) = file.weights.keys().find(|k| k.parse::<EvidenceKind>().is_err()) {
            return Err(ModelError::Kinds(format!("{odd} is unknown")));
        }
        Ok(Self { name: file.name, prior_millinats: file.prior_millinats, weights })
    }

    /// The shipped model.
    pub fn shipped() -> Self {
        #[allow(clippy::expect_used)] // A unit test reads the same constant.
        Self::parse(DEFAULT).expect("the shipped model is valid")
    }

    /// Weight of a kind of evidence.
    pub fn weight(&self, kind: EvidenceKind) -> Weight {
        self.weights[kind as usize]
    }

    /// Every kind with its weight.
    pub fn rows(&self) -> impl Iterator<Item = (EvidenceKind, Weight)> + '_ {
        EvidenceKind::ALL.iter().map(|k| (*k, self.weight(*k)))
    }

    /// The band of a sum of weights and a sum of squared spreads (prior not yet added).
    pub fn band(&self, weight_sum: i64, variance_sum: i64) -> Band {
        let log_odds = self.prior_millinats + weight_sum;
        let spread = (variance_sum as f64).sqrt().floor() as i64;
        Band {
            confidence_bps: probability_bps(log_odds),
            low_bps: probability_bps(log_odds - spread),
            high_bps: probability_bps(log_odds + spread),
        }
    }
}

/// The logistic function from thousandths of a nat to basis points, rounded half away from zero.
/// In SQL: `cast(round(10000.0 / (1.0 + exp(cast(-x as double) / 1000.0))) as bigint)`.
pub fn probability_bps(millinats: i64) -> i64 {
    (10_000.0 / (1.0 + (-millinats as f64 / 1000.0).exp())).round() as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_model_is_sane() {
        let model = Model::shipped();
        let one = model.weight(EvidenceKind::CommitKey);
        let band = model.band(one.weight, one.spread * one.spread);
        assert!(band.low_bps < band.confidence_bps && band.confidence_bps < band.high_bps);
        assert!(band.confidence_bps > 9_000);
        let no = model.weight(EvidenceKind::Rejected);
        let rejected = model.band(one.weight + no.weight, one.spread.pow(2) + no.spread.pow(2));
        assert!(rejected.confidence_bps < 500);
        assert_eq!(probability_bps(0), 5_000);
    }

    #[test]
    fn a_model_must_be_complete() {
        let short = "name = \"x\"\nprior_millinats = 0\n[weights]\nbranch_key = { weight = 1, spread = 1 }\n";
        assert!(Model::parse(short).is_err());
        let odd = DEFAULT.replace("[weights]", "[weights]\nastrology = { weight = 1, spread = 1 }");
        assert!(Model::parse(&odd).expect_err("unknown kind").to_string().contains("astrology"));
    }
}
