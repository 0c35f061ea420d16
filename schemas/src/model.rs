//! The confidence model: one documented file of weights, and the arithmetic from evidence to a band.
//!
//! Two sorts of claims have a prior and weights of their own: that an artifact belongs to a ticket ([`EvidenceKind`]), and
//! that two accounts are one person's ([`IdentityKind`]). Oracles compute the same in SQL over the table `model` (kind,
//! weight, spread, and the prior of the claims that the kind speaks for): see [`Model::rows`].

use std::{collections::BTreeMap, ops::Index};

use serde::Deserialize;

use crate::{
    fact::{EvidenceKind, Feature, IdentityKind},
    id::EntityId,
    record::{ColumnKind, ColumnSpec, Row, Value},
};

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
    /// Stands for the text of the file: another one calls for computing everything anew.
    pub digest: EntityId,
    /// What links that nothing states are judged by; without it there are none.
    pub unstated: Option<Unstated>,
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
    /// What is said of links that nothing states does not fit together.
    #[error("model file: unstated: {0}")]
    Unstated(String),
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

    /// Of how often something was so, out of what was seen: mean of Beta(1 + yes, 1 + no), rounded half up, with one standard
    /// deviation to either side. Nothing seen is even odds. In SQL, with `n = yes + no + 2` and the mean `m`:
    /// `(10000 * (1 + yes) + n / 2) / n`, and to either side `floor(sqrt(m * (10000 - m) / (n + 1)))`.
    pub fn of_counts(yes: i64, no: i64) -> Self {
        let n = yes + no + 2;
        let mean = (10_000 * (1 + yes) + n / 2) / n;
        let spread = ((mean * (10_000 - mean) / (n + 1)) as f64).sqrt().floor() as i64;
        Band { confidence_bps: mean, low_bps: mean - spread, high_bps: mean + spread }
    }

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

/// What links that nothing states are judged by, fitted on links that are stated.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unstated {
    /// The data it was fitted on, in words.
    pub fitted_on: String,
    /// Log-odds that a change belongs to a candidate of which nothing else is known, against none at all, thousandths of a
    /// nat.
    pub prior_millinats: i64,
    /// Information of a word that no ticket had, thousandths of a nat.
    pub unknown_word: i64,
    /// Words that changes open with where people have no ticket: `minor`.
    pub no_ticket: Vec<String>,
    /// Weights of the bins of each feature.
    pub features: Features,
    /// Information of words: the logarithm of how rare they are in titles, thousandths of a nat.
    pub words: BTreeMap<String, i64>,
}

/// The bins of every feature; in a file, a table by the features' words.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "BTreeMap<String, Bins>")]
pub struct Features([Bins; Feature::ALL.len()]);

impl Features {
    /// The bins that a function gives each feature.
    pub fn new(mut of: impl FnMut(Feature) -> Bins) -> Self {
        Self(std::array::from_fn(|n| of(Feature::ALL[n])))
    }

    /// Each feature with its bins.
    pub fn iter(&self) -> impl Iterator<Item = (Feature, &Bins)> {
        Feature::ALL.iter().copied().zip(&self.0)
    }
}

impl Index<Feature> for Features {
    type Output = Bins;

    fn index(&self, feature: Feature) -> &Bins {
        &self.0[feature as usize]
    }
}

impl TryFrom<BTreeMap<String, Bins>> for Features {
    type Error = String;

    fn try_from(mut named: BTreeMap<String, Bins>) -> Result<Self, String> {
        let all = Feature::ALL.iter().map(|f| named.remove(f.word()).ok_or(format!("{} is missing", f.word())));
        let all: Vec<Bins> = all.collect::<Result<_, _>>()?;
        if let Some(odd) = named.keys().next() {
            return Err(format!("{odd} is no feature"));
        }
        let mut all = all.into_iter();
        Ok(Self::new(|_| all.next().unwrap_or_default()))
    }
}

/// The weights of a feature by bins: a value falls in the bin whose number is the number of bounds that it reaches.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bins {
    /// Bounds, rising.
    pub from: Vec<i64>,
    /// Log-odds, thousandths of a nat; one more than bounds.
    pub weight: Vec<i64>,
    /// Standard deviations, thousandths of a nat.
    pub spread: Vec<i64>,
}

impl Bins {
    /// The bin of a value.
    pub fn of(&self, value: i64) -> usize {
        self.from.partition_point(|bound| *bound <= value)
    }

    fn is_sound(&self) -> bool {
        let bins = self.from.len() + 1;
        self.from.is_sorted() && self.weight.len() == bins && self.spread.len() == bins && bins <= BINS_MAX
    }
}

/// The most bins of a feature.
pub const BINS_MAX: usize = 64;

/// One row of the table `model`, which oracles compute with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelRow {
    /// Kind of evidence; `bin:` and a feature; `word:` and a word; `tag:` and a word; `unstated` for the prior of links that
    /// nothing states.
    pub kind: String,
    /// Weight, or the information of a word, thousandths of a nat.
    pub weight: i64,
    /// Standard deviation, thousandths of a nat.
    pub spread: i64,
    /// Prior of the claims that a kind speaks for, thousandths of a nat.
    pub prior: i64,
    /// Of a bin: its least value.
    pub at_least: i64,
    /// Of a bin: the least value above it.
    pub below: i64,
}

impl ModelRow {
    /// The columns of the table, in order.
    pub const COLUMNS: &[ColumnSpec] = &[
        column(
            "kind",
            ColumnKind::Text,
            "",
            "Kind of evidence; `bin:`, `word:`, `tag:` or `unstated` for links that nothing states.",
        ),
        column(
            "weight",
            ColumnKind::Int,
            "thousandths of a nat",
            "How strongly it speaks, as log-odds; information of a word.",
        ),
        column("spread", ColumnKind::Int, "thousandths of a nat", "Standard deviation of the weight."),
        column("prior", ColumnKind::Int, "thousandths of a nat", "Log-odds of such claims before any evidence."),
        column("at_least", ColumnKind::Int, "", "Of a bin: its least value, in the feature's unit."),
        column("below", ColumnKind::Int, "", "Of a bin: the least value above it."),
    ];

    /// The row as values.
    pub fn into_row(self) -> Row {
        let numbers = [self.weight, self.spread, self.prior, self.at_least, self.below].map(Value::Int);
        std::iter::once(Value::Text(self.kind.into())).chain(numbers).collect()
    }
}

const fn column(name: &'static str, kind: ColumnKind, unit: &'static str, doc: &'static str) -> ColumnSpec {
    ColumnSpec { name, kind, nullable: false, unit, doc }
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
            unstated: Option<Unstated>,
        }
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Identity {
            prior_millinats: i64,
            weights: BTreeMap<String, Weight>,
        }
        let file: File = toml::from_str(text)?;
        if let Some(unstated) = &file.unstated {
            unstated.check()?;
        }
        Ok(Self {
            name: file.name,
            digest: EntityId::of_parts("model", &[text]),
            prior_millinats: file.prior_millinats,
            identity_prior_millinats: file.identity.prior_millinats,
            weights: in_order(stated_kinds().map(|k| k.word()), file.weights)?,
            identity_weights: in_order(IdentityKind::ALL.iter().map(|k| k.word()), file.identity.weights)?,
            unstated: file.unstated,
        })
    }

    /// The shipped model.
    pub fn shipped() -> Self {
        #[allow(clippy::expect_used)] // A unit test reads the same constant.
        Self::parse(DEFAULT).expect("the shipped model is valid")
    }

    /// Weight of a kind of evidence that states a link.
    pub fn weight(&self, kind: EvidenceKind) -> Weight {
        debug_assert!(!kind.is_inferred(), "its weight depends on what was found");
        self.weights.get(kind as usize).copied().unwrap_or(Weight { weight: 0, spread: 0 })
    }

    /// Weight of a kind of evidence on two accounts.
    pub fn identity_weight(&self, kind: IdentityKind) -> Weight {
        self.identity_weights[kind as usize]
    }

    /// The model as the table `model`.
    pub fn rows(&self) -> Vec<ModelRow> {
        let row = |kind: String, w: Weight, prior| {
            let (at_least, below) = (0, 0);
            ModelRow { kind, weight: w.weight, spread: w.spread, prior, at_least, below }
        };
        let links = stated_kinds().map(|k| row(k.word().into(), self.weight(k), self.prior_millinats));
        let identities = IdentityKind::ALL
            .iter()
            .map(|k| row(k.word().into(), self.identity_weight(*k), self.identity_prior_millinats));
        let information = |kind, weight| row(kind, Weight { weight, spread: 0 }, 0);
        let mut rows: Vec<_> = links.chain(identities).collect();
        if let Some(unstated) = &self.unstated {
            rows.push(information("unstated".into(), unstated.prior_millinats));
            rows.push(information("word:".into(), unstated.unknown_word));
            rows.extend(unstated.words.iter().map(|(word, weight)| information(format!("word:{word}"), *weight)));
            rows.extend(unstated.no_ticket.iter().map(|word| information(format!("tag:{word}:"), 0)));
            for (feature, bins) in unstated.features.iter() {
                // Whole numbers that every engine can compare with.
                let bounds = |n: usize| bins.from.get(n).copied().unwrap_or(VALUE_MAX);
                for (n, (&weight, &spread)) in bins.weight.iter().zip(&bins.spread).enumerate() {
                    let at_least = n.checked_sub(1).map_or(-VALUE_MAX, bounds);
                    let kind = format!("bin:{}", feature.word());
                    rows.push(ModelRow { kind, weight, spread, prior: 0, at_least, below: bounds(n) });
                }
            }
        }
        rows
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

/// More than any feature comes to.
const VALUE_MAX: i64 = 1 << 40;

impl Unstated {
    fn check(&self) -> Result<(), ModelError> {
        let odd = |what: &str| Err(ModelError::Unstated(what.to_owned()));
        match self.features.iter().find(|(_, bins)| !bins.is_sound()) {
            Some((f, _)) => odd(&format!("{}: from must rise, and weight and spread be one longer", f.word())),
            None if self.words.values().any(|w| *w < 0) || self.unknown_word < 0 => odd("information is negative"),
            None => Ok(()),
        }
    }

    /// The part of a model file, as TOML that [`Model::parse`] reads.
    pub fn to_toml(&self) -> String {
        let quoted: Vec<_> = self.no_ticket.iter().map(|word| format!("{word:?}")).collect();
        let mut out = format!(
            "[unstated]\nfitted_on = {:?}\nprior_millinats = {}\nunknown_word = {}\nno_ticket = [{}]\n",
            self.fitted_on,
            self.prior_millinats,
            self.unknown_word,
            quoted.join(", ")
        );
        out.push_str("\n[unstated.features]\n");
        for (feature, Bins { from, weight, spread }) in self.features.iter() {
            let name = feature.word();
            out.push_str(&format!("{name} = {{ from = {from:?}, weight = {weight:?}, spread = {spread:?} }}\n"));
        }
        out.push_str("\n[unstated.words]\n");
        for (word, information) in &self.words {
            out.push_str(&format!("{word:?} = {information}\n"));
        }
        out
    }
}

/// Kinds of evidence that state a link, in order.
fn stated_kinds() -> impl Iterator<Item = EvidenceKind> {
    EvidenceKind::ALL.iter().copied().filter(|k| !k.is_inferred())
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
    fn counts_make_a_band_that_narrows() {
        let band = |yes, no| {
            let Band { confidence_bps, low_bps, high_bps } = Band::of_counts(yes, no);
            (confidence_bps, low_bps, high_bps)
        };
        assert_eq!(band(0, 0), (5_000, 2_114, 7_886));
        assert_eq!(band(1, 0), (6_667, 4_311, 9_023));
        assert_eq!(band(0, 1), (3_333, 977, 5_689));
        assert_eq!(band(89, 9), (9_000, 8_702, 9_298));
        assert_eq!(band(0, 1_000_000), (0, 0, 0));
        for yes in (0..200).chain([1_000_000_000]) {
            for no in [0, 1, 2, 7, 100, 1_000_000] {
                let (mean, low, high) = band(yes, no);
                assert!(0 <= low && low <= mean && mean <= high && high <= 10_000, "{yes} {no}");
            }
        }
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
        for kind in ["same_name", "cover"] {
            let short = DEFAULT.replace(&format!("\n{kind} "), &format!("\n# {kind} "));
            assert!(Model::parse(&short).expect_err("one is missing").to_string().contains(kind), "{kind}");
        }
        let odd = DEFAULT.replace("\ncover ", "\nluck = { from = [], weight = [0], spread = [0] }\ncover ");
        assert!(Model::parse(&odd).expect_err("unknown feature").to_string().contains("luck is no feature"));
    }

    #[test]
    fn kinds_of_all_claims_have_words_of_their_own() {
        let rows: Vec<_> = Model::shipped().rows().into_iter().map(|row| (row.kind, row.at_least)).collect();
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
