//! Which of a change's candidates does it belong to, or to none?
//!
//! Each bin has a weight, and the weights of a candidate add up to its log-odds s against *none*. All of them compete: with
//! uᵢ = round(10⁶·e^(sᵢ/1000)) and U = 10⁶ + Σu, the probability is uᵢ/U. Whole numbers throughout, so that order does not
//! matter (I3).

use flowsync_schemas::{
    fact::{EvidenceKind, Feature},
    model::Unstated,
};

use super::Binned;

/// A candidate is shown from this share of the whole on: one in twenty.
pub(super) const SHOWN_ONE_IN: i64 = 20;

/// One of several candidates.
pub(super) struct Rival {
    /// Log-odds by kind of evidence, thousandths of a nat, and their standard deviations.
    pub kinds: [(EvidenceKind, i64, i64); 4],
    /// The same of the change itself, and the prior: what speaks for its having a ticket.
    pub other: (i64, i64),
    /// What *none* and the other candidates take from it, thousandths of a nat: at most 0.
    pub against: i64,
    /// Whether it is likely enough to be shown.
    pub shown: bool,
}

impl Rival {
    /// What the bins weigh, before any competition.
    fn new(model: &Unstated, bins: &Binned) -> Self {
        let of = |feature: Feature| {
            let (table, bin) = (&model.features[feature], usize::from(bins[feature as usize]));
            (table.weight[bin], table.spread[bin])
        };
        let sum = |features: &[Feature]| {
            let all = || features.iter().map(|f| of(*f));
            (all().map(|w| w.0).sum::<i64>(), root(all().map(|w| w.1.pow(2)).sum()))
        };
        let named = |kind, (weight, spread)| (kind, weight, spread);
        let (weight, spread) = sum(&[Feature::Tag, Feature::Length, Feature::Pull]);
        Self {
            kinds: [
                named(EvidenceKind::TextSimilarity, sum(&[Feature::Cover, Feature::Shared])),
                named(EvidenceKind::FileOverlap, sum(&[Feature::File, Feature::Touched])),
                named(EvidenceKind::AuthorIsAssignee, of(Feature::Owner)),
                named(EvidenceKind::TimeProximity, sum(&[Feature::Age, Feature::Done, Feature::Progress])),
            ],
            other: (model.prior_millinats + weight, spread),
            against: 0,
            shown: false,
        }
    }

    fn log_odds(&self) -> i64 {
        self.kinds.iter().map(|k| k.1).sum::<i64>() + self.other.0
    }

    /// Log-odds and their standard deviation, competition included, thousandths of a nat.
    pub fn score(&self) -> (i64, i64) {
        let variance = self.kinds.iter().map(|k| k.2.pow(2)).sum::<i64>() + self.other.1.pow(2);
        (self.log_odds() + self.against, root(variance))
    }
}

/// *None* weighs as much as log-odds of zero.
const NONE: i64 = 1_000_000;

/// The candidates of one change, each beside the others.
pub(super) fn compete(model: &Unstated, candidates: &[Binned]) -> Vec<Rival> {
    let mut rivals: Vec<_> = candidates.iter().map(|bins| Rival::new(model, bins)).collect();
    let shares: Vec<i64> = rivals.iter().map(|rival| share(rival.log_odds())).collect();
    let whole = NONE + shares.iter().sum::<i64>();
    for (rival, share) in rivals.iter_mut().zip(shares) {
        rival.against = (-1_000.0 * ((whole - share) as f64 / NONE as f64).ln()).round() as i64;
        rival.shown = SHOWN_ONE_IN * share >= whole;
    }
    rivals
}

fn share(log_odds: i64) -> i64 {
    (NONE as f64 * (log_odds.clamp(-12_000, 12_000) as f64 / 1_000.0).exp()).round() as i64
}

fn root(variance: i64) -> i64 {
    (variance as f64).sqrt().floor() as i64
}

#[cfg(test)]
mod tests {
    use flowsync_schemas::model::probability_bps;

    use super::{super::tests::model, *};

    #[test]
    fn candidates_compete_with_each_other_and_with_none() {
        let (none, all) = (Binned::default(), Binned::default().map(|_| 1));
        let p = |prior, candidates: &[Binned]| -> Vec<i64> {
            compete(&model(prior), candidates).iter().map(|rival| probability_bps(rival.score().0)).collect()
        };
        assert_eq!(p(0, &[none]), [5_000]);
        // To whole thousandths of a nat.
        assert!(p(0, &[none, none, none]).iter().all(|p| (p - 2_500).abs() <= 1));
        let sum: i64 = p(-5_000, &[all, none, all]).iter().sum();
        assert!((9_000..10_000).contains(&sum), "{sum}");
        // The same as the choice in floating point.
        let e = [all.len() as f64 - 3.0, -3.0].map(f64::exp);
        let want = e.map(|u| (10_000.0 * u / (1.0 + e[0] + e[1])).round() as i64);
        let have = p(-3_000, &[all, none]);
        assert!(have.iter().zip(want).all(|(have, want)| (have - want).abs() <= 1), "{have:?} {want:?}");
    }
}
