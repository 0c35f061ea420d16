//! The confidence model: one documented file of weights, and the arithmetic from evidence to a band.
//!
//! Two sorts of claims have a prior and weights of their own: that an artifact belongs to a ticket ([`EvidenceKind`]), and
//! that two accounts are one person's ([`IdentityKind`]). Oracles compute the same in SQL over the table `model` (kind,
//! weight, spread, and the prior of the claims that the kind speaks for): see [`Model::rows`].

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::fact::{EvidenceKind, IdentityKind};

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

/// A model: priors and weights.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Model {
    /// Name of the model, kept with every commit.
    pub name: String,
    /// Prior log-odds that an artifact belongs to a ticket, thousandths of a nat.
    pub prior_millinats: i64,
    /// Prior log-odds that two accounts are one person's, thousandths of a nat.
    pub identity_prior_millinats: i64,
    weights: Vec<Weight>,
    identity_weights: Vec<Weight>,
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, Deserialize)]
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

    /// Of log-odds in thousandths of a nat, with one standard deviation to either side.
    fn of(log_odds: i64, variance: i64) -> Self {
        let spread = (variance as f64).sqrt().floor() as i64;
        Band {
            confidence_bps: probability_bps(log_odds),
            low_bps: probability_bps(log_odds - spread),
            high_bps: probability_bps(log_odds + spread),
        }
    }
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
            weights: BTreeMap<String, Weight>,
            identity: Identity,
        }
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Identity {
            prior_millinats: i64,
            weights: BTreeMap<String, Weight>,
        }
        let file: File = toml::from_str(text)?;
        Ok(Self {
            name: file.name,
            prior_millinats: file.prior_millinats,
            identity_prior_millinats: file.identity.prior_millinats,
            weights: in_order(EvidenceKind::ALL.iter().map(|k| k.word()), file.weights)?,
            identity_weights: in_order(IdentityKind::ALL.iter().map(|k| k.word()), file.identity.weights)?,
        })
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

    /// Weight of a kind of evidence on two accounts.
    pub fn identity_weight(&self, kind: IdentityKind) -> Weight {
        self.identity_weights[kind as usize]
    }

    /// Every kind of evidence on every sort of claim: its word, its weight, and the prior of such claims.
    pub fn rows(&self) -> impl Iterator<Item = (&'static str, Weight, i64)> + '_ {
        let links = EvidenceKind::ALL.iter().map(|k| (k.word(), self.weight(*k), self.prior_millinats));
        let identities =
            IdentityKind::ALL.iter().map(|k| (k.word(), self.identity_weight(*k), self.identity_prior_millinats));
        links.chain(identities)
    }

    /// The band of a link: a sum of weights and a sum of squared spreads (prior not yet added).
    pub fn band(&self, weight_sum: i64, variance_sum: i64) -> Band {
        Band::of(self.prior_millinats + weight_sum, variance_sum)
    }

    /// The band of two accounts being one person's: as [`Model::band`].
    pub fn identity_band(&self, weight_sum: i64, variance_sum: i64) -> Band {
        Band::of(self.identity_prior_millinats + weight_sum, variance_sum)
    }
}

/// The weights in the order of the kinds: each named once, and no others.
fn in_order(
    kinds: impl Iterator<Item = &'static str>,
    mut named: BTreeMap<String, Weight>,
) -> Result<Vec<Weight>, ModelError> {
    let missing = |kind| ModelError::Kinds(format!("{kind} is missing"));
    let weights = kinds.map(|kind| named.remove(kind).ok_or_else(|| missing(kind))).collect::<Result<_, _>>()?;
    match named.into_keys().next() {
        Some(odd) => Err(ModelError::Kinds(format!("{odd} is unknown"))),
        None => Ok(weights),
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
        for table in ["[weights]", "[identity.weights]"] {
            let odd =
                DEFAULT.replace(&format!("\n{table}"), &format!("\n{table}\nastrology = {{ weight = 1, spread = 1 }}"));
            assert!(Model::parse(&odd).expect_err("unknown kind").to_string().contains("astrology"), "{table}");
        }
        let short = DEFAULT.replace("same_name ", "# same_name ");
        assert!(Model::parse(&short).expect_err("a kind is missing").to_string().contains("same_name"));
    }

    #[test]
    fn kinds_of_all_claims_have_words_of_their_own() {
        let rows: Vec<_> = Model::shipped().rows().map(|(kind, ..)| kind).collect();
        let words: std::collections::BTreeSet<_> = rows.iter().collect();
        assert_eq!(words.len(), rows.len());
    }

    #[test]
    fn which_reasons_together_make_one_person() {
        use IdentityKind::{SameHandle, SameName, SameRecord, SameSource, SameWork, StatedSame};
        let model = Model::shipped();
        let sure = |kinds: &[IdentityKind]| {
            let weights = || kinds.iter().map(|k| model.identity_weight(*k));
            let band = model.identity_band(weights().map(|w| w.weight).sum(), weights().map(|w| w.spread.pow(2)).sum());
            band.confidence_bps >= 8_000
        };
        for enough in [
            &[SameRecord][..],
            &[StatedSame],
            &[StatedSame, SameSource],
            &[SameName, SameHandle],
            &[SameName, SameWork],
            &[SameHandle, SameWork],
        ] {
            assert!(sure(enough), "{enough:?}");
        }
        // Homonyms exist; so do two people who took the same login.
        for short in
            [&[SameName][..], &[SameHandle], &[SameName, SameHandle, SameSource], &[SameName, SameWork, SameSource]]
        {
            assert!(!sure(short), "{short:?}");
        }
    }
}
