//! Fits the weights by which a change chooses one of its candidate tickets, or none of them.
//!
//! A candidate falls into one bin of each feature, and each bin has a weight. The prior and the weights of its bins add
//! up to the candidate's log-odds against *none*; the candidates of a change and *none* share its probability. What is
//! maximised is the probability of what is known: that one of the true candidates is chosen, or *none* where no
//! candidate is true. A change whose ticket is not among its candidates therefore counts as *none*: so it is scored as
//! well.
//!
//! Two penalties keep rare bins tame: `L2 / 2` times the squares of the weights, and `SMOOTH / 2` times the squares of
//! the differences between neighbouring bins. The prior is free.
//!
//! Invariant: sums run in the order of the changes, so that the same data give the same weights.

use std::ops::Range;

/// Penalty of a weight, as the precision of a normal distribution around 0.
const L2: f64 = 2.0;
/// Penalty of the step between neighbouring bins, likewise.
const SMOOTH: f64 = 1.0;
/// No slope steeper than this at the end: with the penalty above, weights are exact to a hundredth of a millinat.
const TOLERANCE: f64 = 1e-6;
/// About a dozen suffice, a few more where damping has to find the way.
const MAX_STEPS: usize = 200;
/// Smallest damping that is tried after an undamped step has failed: little beside the penalty.
const DAMPING: f64 = 0.1;

/// One change and the tickets that it was compared with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// The tickets that were kept as candidates; none is possible.
    pub candidates: Vec<Candidate>,
    /// Whether the change belongs to some ticket, kept as a candidate or not.
    pub has_truth: bool,
}

/// One ticket that a change was compared with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The bin of each feature, in the order of the [`Shape`]s. A bin beyond the last counts as the last, a feature
    /// that is missing as its reference.
    pub bins: Vec<u8>,
    /// Whether the change belongs to this ticket.
    pub truth: bool,
}

/// One feature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// How many bins it has: at least one.
    pub bins: usize,
    /// The bin that weighs nothing, less than `bins`.
    pub reference: usize,
}

impl Shape {
    fn last(self) -> usize {
        self.bins.saturating_sub(1)
    }
}

/// What was fitted. Weights are log-odds relative to the reference bin, which has weight 0 and spread 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fitted {
    /// Log-odds against *none* of a candidate whose bins are all reference bins, thousandths of a nat.
    pub prior_millinats: i64,
    /// Weight of each feature's each bin, thousandths of a nat.
    pub weights: Vec<Vec<i64>>,
    /// Standard deviation of that weight (Laplace's approximation), thousandths of a nat.
    pub spreads: Vec<Vec<i64>>,
}

/// Weights of greatest penalised likelihood. Without changes, and for bins that none of them shows, weights are those
/// that the penalties prefer.
pub fn fit(choices: &[Choice], shape: &[Shape]) -> Fitted {
    let objective = Objective::new(choices, shape);
    let best = minimise(&objective);
    let mut factor = vec![0.0; best.hessian.len()];
    factorise(&best.hessian, 0.0, &mut factor);
    let mut contrast = vec![0.0; best.weights.len()];
    let mut fitted = Fitted { prior_millinats: 0, weights: Vec::new(), spreads: Vec::new() };
    let mut prior = best.weights[objective.prior()];
    for (bins, shape) in objective.features().zip(shape) {
        let reference = bins.start + shape.reference.min(shape.last());
        // Shifting a feature's weights into the prior leaves all log-odds as they are.
        prior += best.weights[reference];
        let spread = |bin| millinats(contrast_variance(&factor, &mut contrast, bin, reference).sqrt());
        fitted.weights.push(bins.clone().map(|bin| millinats(best.weights[bin] - best.weights[reference])).collect());
        fitted.spreads.push(bins.map(spread).collect());
    }
    fitted.prior_millinats = millinats(prior);
    fitted
}

fn millinats(nats: f64) -> i64 {
    (nats * 1000.0).round() as i64
}

/// What is minimised: minus the penalised log-likelihood of the choices, over one weight a bin and the prior.
struct Objective {
    /// Where each feature's weights start among the parameters; the last number is where the prior lies.
    starts: Vec<usize>,
    /// For each candidate the parameters that add up to its log-odds, ascending, the prior last: `starts.len()` of
    /// them.
    rows: Vec<usize>,
    /// For each candidate whether it is true.
    truths: Vec<bool>,
    /// For each choice its candidates.
    choices: Vec<Range<usize>>,
}

impl Objective {
    fn new(choices: &[Choice], shape: &[Shape]) -> Self {
        let mut starts = vec![0];
        let mut prior = 0;
        for feature in shape {
            prior += feature.bins.max(1);
            starts.push(prior);
        }
        let mut objective = Self { starts, rows: Vec::new(), truths: Vec::new(), choices: Vec::new() };
        for choice in choices {
            let first = objective.truths.len();
            choice.candidates.iter().for_each(|candidate| objective.push(candidate, shape));
            objective.choices.push(first..objective.truths.len());
        }
        objective
    }

    fn push(&mut self, candidate: &Candidate, shape: &[Shape]) {
        for (feature, (start, shape)) in self.starts.iter().zip(shape).enumerate() {
            let bin = candidate.bins.get(feature).map_or(shape.reference, |&bin| usize::from(bin));
            self.rows.push(start + bin.min(shape.last()));
        }
        self.rows.push(self.prior());
        self.truths.push(candidate.truth);
    }

    fn prior(&self) -> usize {
        self.starts[self.starts.len() - 1]
    }

    fn features(&self) -> impl Iterator<Item = Range<usize>> {
        self.starts.windows(2).map(|ends| ends[0]..ends[1])
    }

    fn rows(&self, candidates: &Range<usize>) -> std::slice::ChunksExact<'_, usize> {
        let width = self.starts.len();
        self.rows[candidates.start * width..candidates.end * width].chunks_exact(width)
    }

    /// Sets the point's loss, gradient and Hessian to those of its weights.
    fn evaluate(&self, point: &mut Point, scratch: &mut Scratch) {
        point.loss = 0.0;
        point.gradient.fill(0.0);
        point.hessian.fill(0.0);
        for candidates in &self.choices {
            point.loss += self.shares(candidates, &point.weights, scratch);
            // The mean of the rows is the gradient of a log of a sum of exponentials, their covariance its Hessian:
            // plus for the sum over all, minus for the sum over the true ones.
            point.add_moments(self.rows(candidates), &scratch.all, 1.0, &mut scratch.moments);
            point.add_moments(self.rows(candidates), &scratch.right, -1.0, &mut scratch.moments);
        }
        self.penalise(point);
    }

    /// The loss of one choice. Leaves in the scratch each candidate's share of the probability, and its share of the
    /// probability of the true candidates.
    fn shares(&self, candidates: &Range<usize>, weights: &[f64], scratch: &mut Scratch) -> f64 {
        let Scratch { all, right, .. } = scratch;
        let truths = &self.truths[candidates.clone()];
        all.clear();
        all.extend(self.rows(candidates).map(|row| row.iter().map(|&at| weights[at]).sum::<f64>()));
        // Relative to the largest, *none* included, so that no exponential overflows.
        let largest = all.iter().copied().fold(0.0, f64::max);
        all.iter_mut().for_each(|score| *score = (*score - largest).exp());
        let total = (-largest).exp() + all.iter().sum::<f64>();
        let of_right = all.iter().zip(truths).map(|(share, truth)| if *truth { *share } else { 0.0 });
        let total_right = of_right.clone().sum::<f64>().max(f64::MIN_POSITIVE);
        right.clear();
        right.extend(of_right.map(|share| share / total_right));
        all.iter_mut().for_each(|share| *share /= total);
        total.ln() - if truths.contains(&true) { total_right.ln() } else { -largest }
    }

    fn penalise(&self, point: &mut Point) {
        let Point { weights, loss, gradient, hessian } = point;
        let len = weights.len();
        for bins in self.features() {
            for bin in bins.clone() {
                *loss += L2 / 2.0 * weights[bin] * weights[bin];
                gradient[bin] += L2 * weights[bin];
                hessian[bin * len + bin] += L2;
            }
            for bin in bins.skip(1) {
                let step = weights[bin] - weights[bin - 1];
                *loss += SMOOTH / 2.0 * step * step;
                gradient[bin] += SMOOTH * step;
                gradient[bin - 1] -= SMOOTH * step;
                hessian[bin * len + bin] += SMOOTH;
                hessian[bin * len - len + bin - 1] += SMOOTH;
                hessian[bin * len + bin - 1] -= SMOOTH;
            }
        }
    }
}

/// Weights and what the objective is there.
struct Point {
    weights: Vec<f64>,
    loss: f64,
    gradient: Vec<f64>,
    /// Row by row; only the lower triangle is set.
    hessian: Vec<f64>,
}

impl Point {
    fn origin(len: usize) -> Self {
        Self { weights: vec![0.0; len], loss: 0.0, gradient: vec![0.0; len], hessian: vec![0.0; len * len] }
    }

    /// Adds the mean of the rows to the gradient and their covariance to the Hessian. The shares need not add up to
    /// one: what is left is *none*, a row of zeros.
    fn add_moments(&mut self, rows: std::slice::ChunksExact<usize>, shares: &[f64], sign: f64, moments: &mut Moments) {
        let len = self.weights.len();
        for (row, &share) in rows.zip(shares) {
            if share == 0.0 {
                continue;
            }
            for (nth, &at) in row.iter().enumerate() {
                moments.add(at, share);
                for &before in &row[..=nth] {
                    self.hessian[at * len + before] += sign * share;
                }
            }
        }
        for (nth, &at) in moments.touched.iter().enumerate() {
            let mean = sign * moments.mean[at];
            self.gradient[at] += mean;
            for &other in &moments.touched[..=nth] {
                self.hessian[at.max(other) * len + at.min(other)] -= mean * moments.mean[other];
            }
        }
        moments.clear();
    }
}

/// Memory that is used again for each choice.
struct Scratch {
    all: Vec<f64>,
    right: Vec<f64>,
    moments: Moments,
}

impl Scratch {
    fn new(len: usize) -> Self {
        let moments = Moments { mean: vec![0.0; len], touched: Vec::new() };
        Self { all: Vec::new(), right: Vec::new(), moments }
    }
}

/// A mean of rows that are mostly zeros.
struct Moments {
    /// One a parameter.
    mean: Vec<f64>,
    /// Where the mean is not zero.
    touched: Vec<usize>,
}

impl Moments {
    fn add(&mut self, at: usize, share: f64) {
        if self.mean[at] == 0.0 {
            self.touched.push(at);
        }
        self.mean[at] += share;
    }

    fn clear(&mut self) {
        self.touched.drain(..).for_each(|at| self.mean[at] = 0.0);
    }
}

/// Newton's method. With several true candidates the objective need not be convex, and far from the minimum a whole
/// step may lead uphill: damping shortens the step and turns it downhill until it helps.
fn minimise(objective: &Objective) -> Point {
    let len = objective.prior() + 1;
    let mut scratch = Scratch::new(len);
    let (mut here, mut there) = (Point::origin(len), Point::origin(len));
    let (mut factor, mut step) = (vec![0.0; len * len], vec![0.0; len]);
    let mut damping = 0.0;
    objective.evaluate(&mut here, &mut scratch);
    for _ in 0..MAX_STEPS {
        if here.gradient.iter().all(|slope| slope.abs() < TOLERANCE) {
            break;
        }
        damping = factorise(&here.hessian, damping, &mut factor);
        step.copy_from_slice(&here.gradient);
        solve(&factor, &mut step);
        for (to, (from, step)) in there.weights.iter_mut().zip(here.weights.iter().zip(&step)) {
            *to = from - step;
        }
        objective.evaluate(&mut there, &mut scratch);
        // Near the minimum a step gains less than the rounding of the loss.
        if there.loss <= here.loss * (1.0 + 1e-12) {
            std::mem::swap(&mut here, &mut there);
            damping = if damping > DAMPING { damping / 10.0 } else { 0.0 };
        } else {
            damping = raised(damping);
        }
    }
    here
}

fn raised(damping: f64) -> f64 {
    (damping * 10.0).max(DAMPING)
}

/// Sets `factor` to the lower triangular root (Cholesky's) of the matrix with `ridge` added to its diagonal, or with
/// the next larger ridge that makes it positive definite. Returns the ridge.
fn factorise(matrix: &[f64], mut ridge: f64, factor: &mut [f64]) -> f64 {
    while !root(matrix, ridge, factor) && ridge.is_finite() {
        ridge = raised(ridge);
    }
    ridge
}

/// Whether the matrix with that ridge is positive definite, up to rounding; if so, its root.
fn root(matrix: &[f64], ridge: f64, factor: &mut [f64]) -> bool {
    let len = matrix.len().isqrt();
    for i in 0..len {
        for j in 0..=i {
            let (row, column) = (&factor[i * len..i * len + j], &factor[j * len..j * len + j]);
            let rest = matrix[i * len + j] - dot(row, column);
            factor[i * len + j] = if i > j {
                rest / factor[j * len + j]
            } else if rest + ridge > 1e-12 * (matrix[i * len + i].abs() + ridge) {
                (rest + ridge).sqrt()
            } else {
                return false;
            };
        }
    }
    true
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Solves `factor · x = b` in place, from parameter `from` on; before it, `b` is zero.
fn solve_lower(factor: &[f64], b: &mut [f64], from: usize) {
    let len = b.len();
    for i in from..len {
        b[i] = (b[i] - dot(&factor[i * len + from..i * len + i], &b[from..i])) / factor[i * len + i];
    }
}

/// Solves `factor · factorᵀ · x = b` in place.
fn solve(factor: &[f64], b: &mut [f64]) {
    solve_lower(factor, b, 0);
    let len = b.len();
    for i in (0..len).rev() {
        let below: f64 = (i + 1..len).map(|row| factor[row * len + i] * b[row]).sum();
        b[i] = (b[i] - below) / factor[i * len + i];
    }
}

/// Variance of the difference of two parameters whose inverse covariance has this root.
fn contrast_variance(factor: &[f64], contrast: &mut [f64], bin: usize, reference: usize) -> f64 {
    contrast.fill(0.0);
    contrast[bin] += 1.0;
    contrast[reference] -= 1.0;
    solve_lower(factor, contrast, bin.min(reference));
    dot(contrast, contrast)
}

#[cfg(test)]
mod tests {
    use super::{super::measure::Random, *};

    const SHAPE: [Shape; 3] =
        [Shape { bins: 4, reference: 0 }, Shape { bins: 3, reference: 1 }, Shape { bins: 2, reference: 0 }];
    const PRIOR: i64 = -2_500;
    const WEIGHTS: [&[i64]; 3] = [&[0, 700, 1_500, 2_600], &[-900, 0, 400], &[0, -1_200]];

    fn log_odds(bins: &[u8]) -> f64 {
        let weights = bins.iter().zip(WEIGHTS).map(|(bin, weights)| weights[usize::from(*bin)]);
        (PRIOR + weights.sum::<i64>()) as f64 / 1000.0
    }

    /// Changes that choose as the model says, one candidate or none.
    fn simulated(changes: usize, seed: u64) -> Vec<Choice> {
        let mut random = Random::new(seed);
        (0..changes).map(|_| simulated_choice(&mut random)).collect()
    }

    fn simulated_choice(random: &mut Random) -> Choice {
        let rows: Vec<Vec<u8>> = (0..random.below(9))
            .map(|_| SHAPE.iter().map(|shape| random.below(shape.bins as u64) as u8).collect())
            .collect();
        let odds: Vec<f64> = rows.iter().map(|bins| log_odds(bins).exp()).collect();
        let mut left = random.below(1 << 53) as f64 / (1u64 << 53) as f64 * (1.0 + odds.iter().sum::<f64>());
        let chosen = odds.iter().position(|odds| {
            left -= odds;
            left < 0.0
        });
        let candidates = rows.into_iter().enumerate();
        let candidates = candidates.map(|(i, bins)| Candidate { bins, truth: chosen == Some(i) }).collect();
        Choice { candidates, has_truth: chosen.is_some() }
    }

    /// Likewise, with a second true candidate in every third change.
    fn several_truths(changes: usize, seed: u64) -> Vec<Choice> {
        let mut choices = simulated(changes, seed);
        choices.iter_mut().step_by(3).filter_map(|choice| choice.candidates.last_mut()).for_each(|c| c.truth = true);
        choices
    }

    fn evaluated(objective: &Objective, weights: &[f64]) -> Point {
        let mut point = Point::origin(weights.len());
        point.weights.copy_from_slice(weights);
        objective.evaluate(&mut point, &mut Scratch::new(weights.len()));
        point
    }

    #[test]
    fn recovers_the_weights_that_made_the_data() {
        let fitted = fit(&simulated(6_000, 1), &SHAPE);
        assert!((fitted.prior_millinats - PRIOR).abs() < 400, "{}", fitted.prior_millinats);
        for (feature, (weights, spreads)) in fitted.weights.iter().zip(&fitted.spreads).enumerate() {
            for (bin, (weight, spread)) in weights.iter().zip(spreads).enumerate() {
                let off = (weight - WEIGHTS[feature][bin]).abs();
                assert!(off <= 3 * spread, "feature {feature}, bin {bin}: {weight} ± {spread}");
                assert_eq!(*spread == 0, bin == SHAPE[feature].reference);
                assert!(*spread < 250, "6,000 changes leave no doubt as large as {spread}");
            }
        }
    }

    #[test]
    fn four_times_the_data_halve_the_spreads() {
        let (few, many) = (fit(&simulated(1_500, 2), &SHAPE), fit(&simulated(6_000, 2), &SHAPE));
        for (few, many) in few.spreads.iter().flatten().zip(many.spreads.iter().flatten()).filter(|(few, _)| **few > 0)
        {
            let ratio = *few as f64 / *many as f64;
            assert!((1.6..2.4).contains(&ratio), "{few} and {many}");
        }
    }

    #[test]
    fn gradient_and_hessian_are_those_of_the_loss() {
        let objective = Objective::new(&several_truths(200, 3), &SHAPE);
        let mut random = Random::new(4);
        let len = objective.prior() + 1;
        let mut weights: Vec<f64> = (0..len).map(|_| random.below(2_001) as f64 / 1000.0 - 1.0).collect();
        let point = evaluated(&objective, &weights);
        let step = 1e-5;
        for i in 0..len {
            let at = weights[i];
            weights[i] = at + step;
            let above = evaluated(&objective, &weights);
            weights[i] = at - step;
            let below = evaluated(&objective, &weights);
            weights[i] = at;
            let slope = (above.loss - below.loss) / (2.0 * step);
            assert!((slope - point.gradient[i]).abs() < 1e-5, "{i}: {slope}, {}", point.gradient[i]);
            for j in 0..=i {
                let slope = (above.gradient[j] - below.gradient[j]) / (2.0 * step);
                let exact = point.hessian[i * len + j];
                assert!((slope - exact).abs() < 1e-5, "{i}, {j}: {slope}, {exact}");
            }
        }
    }

    #[test]
    fn the_order_of_changes_does_not_matter() {
        let mut choices = several_truths(800, 5);
        let forwards = fit(&choices, &SHAPE);
        choices.reverse();
        choices.iter_mut().for_each(|choice| choice.candidates.reverse());
        let backwards = fit(&choices, &SHAPE);
        assert!((forwards.prior_millinats - backwards.prior_millinats).abs() <= 1);
        let all = |fitted: &Fitted| fitted.weights.iter().chain(&fitted.spreads).flatten().copied().collect::<Vec<_>>();
        for (forwards, backwards) in all(&forwards).into_iter().zip(all(&backwards)) {
            assert!((forwards - backwards).abs() <= 1, "{forwards}, {backwards}");
        }
    }

    #[test]
    fn damping_leads_out_of_where_the_loss_is_not_convex() {
        // Both candidates of each change are true: nothing says which of them is chosen, and at the origin the loss
        // bends downwards between them.
        let candidate = |bin, truth| Candidate { bins: vec![bin], truth };
        let mut choices =
            vec![Choice { candidates: vec![candidate(0, true), candidate(1, true)], has_truth: true }; 100];
        choices.extend(vec![Choice { candidates: vec![candidate(0, false)], has_truth: false }; 5]);
        let objective = Objective::new(&choices, &[Shape { bins: 2, reference: 0 }]);
        let start = evaluated(&objective, &[0.0; 3]);
        assert!(!root(&start.hessian, 0.0, &mut [0.0; 9]));
        let end = minimise(&objective);
        assert!(end.loss < start.loss);
        assert!(end.gradient.iter().all(|slope| slope.abs() < TOLERANCE), "{:?}", end.gradient);
        assert!(end.weights[1] > end.weights[0] + 1.0, "{:?}", end.weights);
    }

    #[test]
    fn damping_shortens_steps_that_lead_uphill() {
        // Candidates are alike, and one change in a hundred belongs to one: at the origin hardly any change chooses none,
        // the loss is almost straight, and a whole step leads so far beyond the minimum that none finds back.
        let candidate = |truth| Candidate { bins: vec![0], truth };
        let choice =
            |truth| Choice { candidates: (0..64).map(|i| candidate(truth && i == 0)).collect(), has_truth: truth };
        let choices: Vec<Choice> = (0..200).map(|i| choice(i % 100 == 0)).collect();
        let fitted = fit(&choices, &[Shape { bins: 1, reference: 0 }]);
        assert_eq!(fitted.prior_millinats, millinats((0.01_f64 / 64.0 / 0.99).ln()));
    }

    #[test]
    fn little_or_one_sided_data_give_finite_weights() {
        let nothing = fit(&[], &SHAPE);
        assert_eq!(nothing.prior_millinats, 0);
        assert!(nothing.weights.iter().flatten().all(|weight| *weight == 0));
        assert_eq!(fit(&[], &[]), Fitted { prior_millinats: 0, weights: vec![], spreads: vec![] });
        // Every change belongs to its one candidate: the likelihood has no maximum, the prior grows until it is sure.
        let candidates = vec![Candidate { bins: vec![9], truth: true }];
        let sure = fit(&vec![Choice { candidates, has_truth: true }; 50], &SHAPE);
        assert!((5_000..100_000).contains(&sure.prior_millinats), "{}", sure.prior_millinats);
        assert!(sure.spreads.iter().flatten().all(|spread| (0..2_000).contains(spread)), "{:?}", sure.spreads);
    }
}
