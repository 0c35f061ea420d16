//! How far probabilities hold on changes whose ticket is known: ranking, calibration, thresholds, and a baseline that
//! knows words only.
//!
//! A *pair* is a change and one of its candidates, a *first choice* the pair of greatest probability of its change (of
//! equals the later one). Counts stay whole numbers, so that every figure can be checked by hand.
//!
//! Invariant: the same outcomes give the same figures; chance is drawn from a generator with a fixed seed.

use std::collections::HashMap;

/// Basis points of certainty.
const CERTAIN: i64 = 10_000;
/// Pairs below it are shown to nobody, and are so many that they would hide what happens above.
const SHOWN_BPS: i64 = 500;
/// Suggested, asserted, and sure enough for decisions about money.
const THRESHOLDS_BPS: [i64; 3] = [2_000, 5_000, 9_000];
const BIN_BPS: i64 = 1_000;
const BAND_BPS: i64 = 2_000;
/// Samples drawn to learn what chance alone does.
const DRAWS: usize = 500;
/// Of a normal distribution, 95 % lie within this many standard deviations.
const Z95: f64 = 1.959_963_985;
/// How many documents count as found.
const FOUND: usize = 8;
/// BM25: how soon repetitions of a word stop counting, and how far the length of a document counts.
const K1: f64 = 1.2;
const B: f64 = 0.75;

/// One pair after scoring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scored {
    /// Probability that the change belongs to the ticket, basis points.
    pub probability_bps: i64,
    /// Low end of its band, basis points.
    pub low_bps: i64,
    /// High end of its band, basis points.
    pub high_bps: i64,
    /// Whether it does.
    pub truth: bool,
}

/// One change after scoring.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The tickets that were kept as candidates.
    pub candidates: Vec<Scored>,
    /// Whether the change belongs to some ticket, kept as a candidate or not.
    pub has_truth: bool,
}

/// So many of so many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rate {
    /// Those that count.
    pub hits: usize,
    /// All of them.
    pub of: usize,
}

impl Rate {
    /// The share, 0 to 1; none of nothing.
    pub fn value(self) -> Option<f64> {
        (self.of > 0).then(|| self.hits as f64 / self.of as f64)
    }

    /// Wilson's 95 % interval of the share; from 0 to 1 of nothing.
    pub fn wilson(self) -> (f64, f64) {
        let Some(share) = self.value() else { return (0.0, 1.0) };
        let (n, zz) = (self.of as f64, Z95 * Z95);
        let middle = share + zz / (2.0 * n);
        let reach = Z95 * (share * (1.0 - share) / n + zz / (4.0 * n * n)).sqrt();
        let scale = 1.0 + zz / n;
        (((middle - reach) / scale).max(0.0), ((middle + reach) / scale).min(1.0))
    }

    fn count(&mut self, hit: bool) {
        self.of += 1;
        self.hits += usize::from(hit);
    }
}

/// All figures of one population of changes.
#[derive(Clone, Debug, PartialEq)]
pub struct Measures {
    /// Changes.
    pub changes: usize,
    /// Candidates of all of them.
    pub pairs: usize,
    /// Of the changes with a ticket, those whose first choice is true.
    pub precision_at_1: Rate,
    /// Of the changes with a ticket, those with a true candidate.
    pub recall: Rate,
    /// Mean squared error of the probabilities of all pairs; none without pairs.
    pub brier_pairs: Option<f64>,
    /// The same of first choices.
    pub brier_first: Option<f64>,
    /// Calibration of first choices, however improbable.
    pub first: Calibration,
    /// Calibration of all pairs of 5 % and more.
    pub shown: Calibration,
    /// What one gets by believing pairs from 20 %, 50 % and 90 % on.
    pub thresholds: Vec<Threshold>,
    /// Pairs of 5 % and more by display band: 0–20, 20–40, 40–60, 60–80 and 80–100 %, those that have any.
    pub bands: Vec<Row>,
}

/// Whether stated probabilities come true as often as they say.
#[derive(Clone, Debug, PartialEq)]
pub struct Calibration {
    /// Pairs.
    pub pairs: usize,
    /// Expected calibration error, 0 to 1: the distance between mean probability and true rate in ten equal bins,
    /// weighted by their pairs. 0 without pairs.
    pub error: f64,
    /// Its mean for a perfectly calibrated model that states the same probabilities: what chance alone does.
    pub chance_mean: f64,
    /// What 95 % of such samples do not exceed.
    pub chance_95: f64,
    /// The bins that have any pairs.
    pub rows: Vec<Row>,
}

impl Calibration {
    /// Whether the error is one that chance explains.
    pub fn holds(&self) -> bool {
        self.error <= self.chance_95
    }
}

/// Pairs of similar probability.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Row {
    /// Least probability, basis points.
    pub from_bps: i64,
    /// The probability below which they lie, basis points; the last row includes 100 %.
    pub to_bps: i64,
    /// Mean probability, 0 to 1.
    pub probability: f64,
    /// Mean low end of the bands, 0 to 1.
    pub low: f64,
    /// Mean high end of the bands, 0 to 1.
    pub high: f64,
    /// Of the pairs, those that are true.
    pub rate: Rate,
}

impl Row {
    /// Whether the mean probability lies in the 95 % interval of the rate.
    pub fn holds(&self) -> bool {
        let (low, high) = self.rate.wilson();
        (low..=high).contains(&self.probability)
    }
}

/// What one gets by believing all pairs from some probability on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Threshold {
    /// The least probability that is believed, basis points.
    pub from_bps: i64,
    /// Of the pairs that are believed, those that are true.
    pub precision: Rate,
    /// Of the true pairs, those that are believed. A change with a ticket but no true candidate counts as one true
    /// pair.
    pub recall: Rate,
}

impl Threshold {
    /// Harmonic mean of precision and recall, 0 to 1; none where nothing is believed and nothing true.
    pub fn f1(&self) -> Option<f64> {
        Rate { hits: 2 * self.precision.hits, of: self.precision.of + self.recall.of }.value()
    }
}

/// All figures of a population.
pub fn measure(outcomes: &[Outcome]) -> Measures {
    let pairs: Vec<Scored> = outcomes.iter().flat_map(|outcome| &outcome.candidates).copied().collect();
    let shown: Vec<Scored> = pairs.iter().filter(|pair| pair.probability_bps >= SHOWN_BPS).copied().collect();
    let first: Vec<Scored> = outcomes.iter().filter_map(first_choice).collect();
    let (mut precision_at_1, mut recall) = (Rate::default(), Rate::default());
    for outcome in outcomes.iter().filter(|outcome| outcome.has_truth) {
        precision_at_1.count(first_choice(outcome).is_some_and(|first| first.truth));
        recall.count(outcome.candidates.iter().any(|pair| pair.truth));
    }
    let missed = recall.of - recall.hits;
    Measures {
        changes: outcomes.len(),
        pairs: pairs.len(),
        precision_at_1,
        recall,
        brier_pairs: brier(&pairs),
        brier_first: brier(&first),
        first: calibration(&first),
        shown: calibration(&shown),
        thresholds: THRESHOLDS_BPS.map(|from_bps| threshold(&pairs, missed, from_bps)).to_vec(),
        bands: rows(&shown, BAND_BPS),
    }
}

fn first_choice(outcome: &Outcome) -> Option<Scored> {
    outcome.candidates.iter().max_by_key(|pair| pair.probability_bps).copied()
}

fn mean(values: impl ExactSizeIterator<Item = f64>) -> Option<f64> {
    let len = values.len();
    (len > 0).then(|| values.sum::<f64>() / len as f64)
}

fn share(bps: i64) -> f64 {
    bps as f64 / CERTAIN as f64
}

fn brier(pairs: &[Scored]) -> Option<f64> {
    mean(pairs.iter().map(|pair| (share(pair.probability_bps) - f64::from(pair.truth)).powi(2)))
}

fn threshold(pairs: &[Scored], missed: usize, from_bps: i64) -> Threshold {
    let believed = pairs.iter().filter(|pair| pair.probability_bps >= from_bps);
    let (mut precision, truths) = (Rate::default(), pairs.iter().filter(|pair| pair.truth).count());
    believed.for_each(|pair| precision.count(pair.truth));
    Threshold { from_bps, precision, recall: Rate { hits: precision.hits, of: truths + missed } }
}

/// The pairs by probability, in rows of equal width; certainty belongs to the last one.
fn rows(pairs: &[Scored], width_bps: i64) -> Vec<Row> {
    let row = |from_bps: i64| {
        let range = from_bps..from_bps + width_bps;
        let of_row = |pair: &&Scored| range.contains(&pair.probability_bps.clamp(0, CERTAIN - 1));
        let members: Vec<&Scored> = pairs.iter().filter(of_row).collect();
        let mean_of = |bps: fn(&Scored) -> i64| mean(members.iter().map(|pair| share(bps(pair))));
        Some(Row {
            from_bps,
            to_bps: range.end,
            probability: mean_of(|pair| pair.probability_bps)?,
            low: mean_of(|pair| pair.low_bps)?,
            high: mean_of(|pair| pair.high_bps)?,
            rate: Rate { hits: members.iter().filter(|pair| pair.truth).count(), of: members.len() },
        })
    };
    (0..CERTAIN / width_bps).filter_map(|nth| row(nth * width_bps)).collect()
}

fn calibration(pairs: &[Scored]) -> Calibration {
    let stated: Vec<i64> = pairs.iter().map(|pair| pair.probability_bps).collect();
    let chance = chance(&stated);
    Calibration {
        pairs: pairs.len(),
        error: calibration_error(&stated, pairs.iter().map(|pair| pair.truth)),
        chance_mean: mean(chance.iter().copied()).unwrap_or_default(),
        // The least of the draws that 95 % do not exceed.
        chance_95: chance.get((DRAWS * 95).div_ceil(100) - 1).copied().unwrap_or_default(),
        rows: rows(pairs, BIN_BPS),
    }
}

/// Sums in whole numbers: a bin's gap is the sum of its probabilities less the number of its truths.
fn calibration_error(stated: &[i64], truths: impl Iterator<Item = bool>) -> f64 {
    let mut gaps = [0_i64; (CERTAIN / BIN_BPS) as usize];
    for (&bps, truth) in stated.iter().zip(truths) {
        let bin = bps.clamp(0, CERTAIN - 1) / BIN_BPS;
        gaps[bin as usize] += bps - if truth { CERTAIN } else { 0 };
    }
    share(gaps.iter().map(|gap| gap.abs()).sum()) / stated.len().max(1) as f64
}

/// Calibration errors, ascending, of samples in which each pair is true as often as it says.
fn chance(stated: &[i64]) -> Vec<f64> {
    let mut stated = stated.to_vec();
    // The same samples in whatever order the pairs come.
    stated.sort_unstable();
    let mut random = Random::new(0);
    let mut come_true = |bps: &i64| (random.below(CERTAIN as u64) as i64) < *bps;
    let mut errors: Vec<f64> =
        (0..DRAWS).map(|_| calibration_error(&stated, stated.iter().map(&mut come_true))).collect();
    errors.sort_by(f64::total_cmp);
    errors
}

/// Numbers that look random and are the same everywhere (splitmix64).
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number from 0 up to but not including `bound`.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^= z >> 31;
        // The high half of the product: every number is as likely, up to `bound / 2⁶⁴`.
        ((u128::from(z) * u128::from(bound)) >> 64) as u64
    }
}

/// A ticket as text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document<'a> {
    /// When it was created, hours since 1970.
    pub created_hours: i64,
    /// Its words, as often as they occur.
    pub words: Vec<&'a str>,
}

/// A change as text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query<'a> {
    /// Its words; repetitions do not count.
    pub words: Vec<&'a str>,
    /// Tickets created later than this are no candidates, hours since 1970.
    pub latest_hours: i64,
    /// The tickets it belongs to, as places among the documents. Without any, it is left out.
    pub truths: Vec<usize>,
}

/// How well words alone find the ticket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Baseline {
    /// Of the changes with a ticket, those whose best document is true.
    pub precision_at_1: Rate,
    /// Of the changes with a ticket, those with a true document among the best eight.
    pub recall_at_8: Rate,
}

impl Baseline {
    /// Adds what was measured on other changes.
    pub fn add(&mut self, other: Baseline) {
        let both = [(&mut self.precision_at_1, other.precision_at_1), (&mut self.recall_at_8, other.recall_at_8)];
        for (rate, more) in both {
            rate.hits += more.hits;
            rate.of += more.of;
        }
    }
}

/// BM25 with `k1 = 1.2`, `b = 0.75` and `idf = ln(1 + (N − df + ½) / (df + ½))`. N and df count the documents created
/// before `counted_before_hours` (hours since 1970), as a model would that was fitted then; the mean length is that of
/// all. Of equal documents the earlier one in the list comes first.
pub fn bm25(documents: &[Document], queries: &[Query], counted_before_hours: i64) -> Baseline {
    let index = Index::new(documents, counted_before_hours);
    let mut scores = vec![0.0; documents.len()];
    let mut baseline = Baseline::default();
    for query in queries.iter().filter(|query| !query.truths.is_empty()) {
        let best = index.best(query, &mut scores);
        let is_true = |document: &usize| query.truths.contains(document);
        baseline.precision_at_1.count(best.first().is_some_and(is_true));
        baseline.recall_at_8.count(best.iter().any(is_true));
    }
    baseline
}

/// Where each word occurs.
struct Index<'a> {
    documents: &'a [Document<'a>],
    words: HashMap<&'a str, Postings>,
    /// Documents among which words are counted.
    counted: usize,
    mean_length: f64,
}

#[derive(Default)]
struct Postings {
    /// Documents that hold the word, ascending, and how often.
    documents: Vec<(usize, f64)>,
    /// How many of them are counted.
    counted: usize,
}

impl<'a> Index<'a> {
    fn new(documents: &'a [Document<'a>], counted_before_hours: i64) -> Self {
        let is_counted = |document: &Document| document.created_hours < counted_before_hours;
        let mut words: HashMap<&str, Postings> = HashMap::new();
        for (at, document) in documents.iter().enumerate() {
            for word in &document.words {
                let postings = words.entry(word).or_default();
                match postings.documents.last_mut() {
                    Some((last, times)) if *last == at => *times += 1.0,
                    _ => {
                        postings.documents.push((at, 1.0));
                        postings.counted += usize::from(is_counted(document));
                    }
                }
            }
        }
        let mean_length = mean(documents.iter().map(|document| document.words.len() as f64)).unwrap_or_default();
        Self {
            documents,
            words,
            counted: documents.iter().filter(|document| is_counted(document)).count(),
            mean_length,
        }
    }

    /// The best documents, best first. The scores are zero before and after.
    fn best(&self, query: &Query, scores: &mut [f64]) -> Vec<usize> {
        let mut words = query.words.clone();
        words.sort_unstable();
        words.dedup();
        let mut touched = Vec::new();
        for postings in words.iter().filter_map(|word| self.words.get(word)) {
            let idf = self.idf(postings);
            for &(at, times) in &postings.documents {
                let document = &self.documents[at];
                if document.created_hours > query.latest_hours {
                    continue;
                }
                if scores[at] == 0.0 {
                    touched.push(at);
                }
                let length = 1.0 - B + B * document.words.len() as f64 / self.mean_length;
                scores[at] += idf * times * (K1 + 1.0) / (times + K1 * length);
            }
        }
        touched.sort_unstable_by(|a, b| scores[*b].total_cmp(&scores[*a]).then(a.cmp(b)));
        touched.iter().for_each(|at| scores[*at] = 0.0);
        touched.truncate(FOUND);
        touched
    }

    fn idf(&self, postings: &Postings) -> f64 {
        let (n, df) = (self.counted as f64, postings.counted as f64);
        (1.0 + (n - df + 0.5) / (df + 0.5)).ln()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(probability_bps: i64, truth: bool) -> Scored {
        Scored { probability_bps, low_bps: probability_bps / 2, high_bps: (probability_bps + CERTAIN) / 2, truth }
    }

    fn outcome(has_truth: bool, candidates: &[(i64, bool)]) -> Outcome {
        Outcome { candidates: candidates.iter().map(|&(bps, truth)| pair(bps, truth)).collect(), has_truth }
    }

    /// Pairs that state anything from 0 to 100 %, and are true as often as `actual` says of what they state.
    fn sample(actual: fn(f64) -> f64) -> Vec<Scored> {
        let mut random = Random::new(7);
        let mut one = || {
            let stated = random.below(10_001) as i64;
            pair(stated, (random.below(1_000_000) as f64) < 1e6 * actual(share(stated)))
        };
        (0..2_000).map(|_| one()).collect()
    }

    #[test]
    fn a_calibrated_sample_is_within_chance_and_an_over_confident_one_is_not() {
        let honest = calibration(&sample(|stated| stated));
        assert!(honest.holds(), "{honest:?}");
        assert!(honest.chance_mean < honest.chance_95 && honest.chance_95 < 0.04, "{honest:?}");
        // Half the distance from one half: who states 90 % is right in 70 %.
        let sure = calibration(&sample(|stated| 0.5 + (stated - 0.5) / 2.0));
        assert!(!sure.holds(), "{sure:?}");
        assert!((sure.error - 0.125).abs() < 0.03, "{}", sure.error);
    }

    #[test]
    fn calibrated_samples_exceed_the_bound_about_once_in_twenty() {
        let stated: Vec<i64> = (0..400).map(|i| i * 25).collect();
        let bound = calibration(&stated.iter().map(|bps| pair(*bps, false)).collect::<Vec<_>>()).chance_95;
        let mut random = Random::new(8);
        let mut exceeds = || {
            let truths: Vec<bool> = stated.iter().map(|bps| (random.below(10_000) as i64) < *bps).collect();
            calibration_error(&stated, truths.into_iter()) > bound
        };
        let times = (0..1_000).filter(|_| exceeds()).count();
        assert!((25..=80).contains(&times), "{times}");
    }

    #[test]
    fn wilson_against_published_values() {
        // Newcombe, Statistics in Medicine 17 (1998), table I, method 3.
        for (hits, of, low, high) in
            [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)]
        {
            let interval = Rate { hits, of }.wilson();
            assert!((interval.0 - low).abs() < 5e-5 && (interval.1 - high).abs() < 5e-5, "{hits}/{of}: {interval:?}");
            let (low, high) = Rate { hits: of - hits, of }.wilson();
            assert!((low - 1.0 + interval.1).abs() < 1e-12 && (high - 1.0 + interval.0).abs() < 1e-12);
        }
        assert_eq!(Rate::default().wilson(), (0.0, 1.0));
    }

    #[test]
    fn figures_of_four_changes() {
        let measures = measure(&[
            outcome(true, &[(6_000, true), (3_000, false)]),
            outcome(true, &[(2_000, true), (4_000, false)]),
            outcome(true, &[(400, false)]),
            outcome(false, &[]),
        ]);
        assert_eq!((measures.changes, measures.pairs), (4, 5));
        assert_eq!(measures.precision_at_1, Rate { hits: 1, of: 3 });
        assert_eq!(measures.recall, Rate { hits: 2, of: 3 });
        let squares = [0.4 * 0.4, 0.3 * 0.3, 0.8 * 0.8, 0.4 * 0.4, 0.04 * 0.04];
        assert!((measures.brier_pairs.unwrap() - squares.iter().sum::<f64>() / 5.0).abs() < 1e-12);
        assert!((measures.brier_first.unwrap() - (squares[0] + squares[3] + squares[4]) / 3.0).abs() < 1e-12);
        assert!((measures.first.error - (0.4 + 0.4 + 0.04) / 3.0).abs() < 1e-12);
        assert!((measures.shown.error - (0.4 + 0.3 + 0.8 + 0.4) / 4.0).abs() < 1e-12);
        let at = |nth: usize| (measures.thresholds[nth].precision, measures.thresholds[nth].recall);
        assert_eq!(at(0), (Rate { hits: 2, of: 4 }, Rate { hits: 2, of: 3 }));
        assert_eq!(at(1), (Rate { hits: 1, of: 1 }, Rate { hits: 1, of: 3 }));
        assert_eq!(at(2), (Rate { hits: 0, of: 0 }, Rate { hits: 0, of: 3 }));
        assert_eq!(measures.thresholds[1].f1(), Some(0.5));
        let bands: Vec<_> = measures.bands.iter().map(|row| (row.from_bps, row.to_bps, row.rate)).collect();
        let expected = [(2_000, 4_000, Rate { hits: 1, of: 2 }), (4_000, 6_000, Rate { hits: 0, of: 1 })];
        assert_eq!(bands[..2], expected);
        assert_eq!(bands[2], (6_000, 8_000, Rate { hits: 1, of: 1 }));
        assert!((measures.bands[0].probability - 0.25).abs() < 1e-12);
        assert!((measures.bands[0].low - 0.125).abs() < 1e-12 && (measures.bands[0].high - 0.625).abs() < 1e-12);
    }

    #[test]
    fn certainty_has_a_row_and_nothing_has_none() {
        let row = |truth| rows(&vec![pair(CERTAIN, truth); 10], BIN_BPS)[0];
        assert_eq!((row(true).from_bps, row(true).holds(), row(false).holds()), (9_000, true, false));
        let nothing = measure(&[]);
        assert_eq!((nothing.brier_pairs, nothing.precision_at_1.value()), (None, None));
        assert_eq!((nothing.shown.error, nothing.shown.rows.len(), nothing.bands.len()), (0.0, 0, 0));
    }

    fn document<'a>(created_hours: i64, text: &'a str) -> Document<'a> {
        Document { created_hours, words: text.split(' ').collect() }
    }

    fn query<'a>(text: &'a str, latest_hours: i64, truths: &[usize]) -> Query<'a> {
        Query { words: text.split(' ').collect(), latest_hours, truths: truths.to_vec() }
    }

    #[test]
    fn bm25_as_computed_by_hand() {
        let documents =
            [document(0, "broker fails"), document(1, "broker broker start slowly"), document(9, "broker start test")];
        let index = Index::new(&documents, 5);
        // Two documents are counted, both with "broker", one with "start"; three words a document on average.
        assert!((index.idf(&index.words["broker"]) - (1.0_f64 + 0.5 / 2.5).ln()).abs() < 1e-12);
        assert!((index.idf(&index.words["start"]) - (1.0_f64 + 1.5 / 1.5).ln()).abs() < 1e-12);
        // broker: ln 1.2 = 0.1823; start: ln 2 = 0.6931; lengths 2, 4, 3 scale k1 by 0.75, 1.25, 1.
        // 0: 0.1823 · 2.2 / 1.9 = 0.2111
        // 1: 0.1823 · 4.4 / 3.5 + 0.6931 · 2.2 / 2.5 = 0.8392
        // 2: 0.1823 + 0.6931 = 0.8755
        let mut scores = [0.0; 3];
        assert_eq!(index.best(&query("broker start broker broker broker", 9, &[]), &mut scores), [2, 1, 0]);
        assert_eq!(index.best(&query("start broker", 8, &[]), &mut scores), [1, 0]);
        // 0: 0.2111; 1: 0.2292; 2: 0.1823
        assert_eq!(index.best(&query("broker", 9, &[]), &mut scores), [1, 0, 2]);
        assert_eq!(scores, [0.0; 3]);
        let queries = [
            query("start broker", 9, &[2]),
            query("start broker", 9, &[0]),
            query("unheard", 9, &[1]),
            query("start", 9, &[]),
        ];
        let baseline = bm25(&documents, &queries, 5);
        assert_eq!(baseline.precision_at_1, Rate { hits: 1, of: 3 });
        assert_eq!(baseline.recall_at_8, Rate { hits: 2, of: 3 });
    }

    #[test]
    fn bm25_keeps_eight_and_prefers_the_earlier_of_equals() {
        let documents: Vec<Document> = (0..10).map(|_| document(0, "same")).collect();
        let recall = |truth| bm25(&documents, &[query("same", 0, &[truth])], 1);
        assert_eq!((recall(0).precision_at_1.hits, recall(1).precision_at_1.hits), (1, 0));
        assert_eq!((recall(7).recall_at_8.hits, recall(8).recall_at_8.hits), (1, 0));
    }
}
