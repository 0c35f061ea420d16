//! What was fitted and how far it holds, for the people who rely on it: as Markdown, and as a diagram.
//!
//! Invariant: names are the only foreign text, and pass `inline` or `escaped`.

use std::fmt::Write as _;

use super::{
    fit::Fitted,
    measure::{Baseline, Calibration, Measures, Rate, Row, Threshold},
};

/// Characters of a name in the diagram, where lines do not wrap.
const TITLE_CHARS: usize = 44;
/// The diagram's square, in its own units: left and upper edge, and width.
const LEFT: f64 = 56.0;
const TOP: f64 = 40.0;
const WIDTH: f64 = 320.0;
/// Radius of the smallest and growth to the largest point.
const LEAST_RADIUS: f64 = 2.5;
const MORE_RADIUS: f64 = 8.0;

/// Days from one up to but not including another, as `2019-01-01`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Period {
    /// First day.
    pub from: String,
    /// The day after the last one.
    pub until: String,
}

/// Changes of one sort, with what was measured on them.
#[derive(Clone, Debug, PartialEq)]
pub struct Population {
    /// What they are called.
    pub name: String,
    /// How far the probabilities hold on them.
    pub measures: Measures,
    /// How well words alone find their tickets, where that was measured.
    pub bm25: Option<Baseline>,
}

/// What the bins of a feature mean.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Feature {
    /// Its name, with its unit where it has one.
    pub name: String,
    /// What each bin holds; see [`ranges`].
    pub bins: Vec<String>,
}

/// One calibration: its data, its result, and how far it holds.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// Names of the data.
    pub data: Vec<String>,
    /// When the changes were decided on which the weights were fitted.
    pub fitted_period: Period,
    /// How many of them belong to a ticket.
    pub fitted_with_ticket: Rate,
    /// Months of a period.
    pub months: u32,
    /// When the changes were decided on which such weights were tested, period by period.
    pub tested_period: Period,
    /// What was tested; the diagram shows the first.
    pub populations: Vec<Population>,
    /// The features, in the order of the weights.
    pub features: Vec<Feature>,
    /// The weights.
    pub fitted: Fitted,
}

/// Names of the bins that whole numbers fall into: a bin for each number of bounds that are not above the value.
pub fn ranges(bounds: &[i64]) -> Vec<String> {
    let (Some(first), Some(last)) = (bounds.first(), bounds.last()) else { return vec!["any".to_owned()] };
    let between = bounds.windows(2).map(|ends| match ends[1] - 1 {
        last if last == ends[0] => last.to_string(),
        last => format!("{} to {last}", ends[0]),
    });
    std::iter::once(format!("under {first}")).chain(between).chain([format!("{last} or more")]).collect()
}

impl Report {
    /// The report as Markdown.
    pub fn markdown(&self) -> String {
        let (fitted, tested) = (&self.fitted_period, &self.tested_period);
        let mut out = format!(
            "# Links that nothing states: how far their probabilities hold\n\n\
             Data: {}. The shipped weights were fitted on {} changes decided (merged, closed or committed) from {} until \
             before {}, of which {} belong to a ticket. The figures are of changes decided from {} until before {}, in \
             periods of {} months: each period was scored with weights and counts of words from before it. A *pair* is a \
             change and one of its candidate tickets; a *first choice* is the most probable candidate of a change.\n\n",
            inline(&self.data.join(", ")),
            self.fitted_with_ticket.of,
            inline(&fitted.from),
            inline(&fitted.until),
            self.fitted_with_ticket.hits,
            inline(&tested.from),
            inline(&tested.until),
            self.months,
        );
        self.push_summary(&mut out);
        for population in &self.populations {
            push_population(&mut out, population);
        }
        self.push_weights(&mut out);
        out
    }

    fn push_summary(&self, out: &mut String) {
        let names = self.populations.iter().map(|population| inline(&population.name));
        let header: Vec<String> =
            ["Measure".into()].into_iter().chain(names).chain(["How it is computed".into()]).collect();
        let rows = SUMMARY.iter().map(|(name, value, how)| {
            let values = self.populations.iter().map(value);
            [(*name).into()].into_iter().chain(values).chain([(*how).into()]).collect()
        });
        out.push_str("## Summary\n\n");
        push_table(out, &header, rows);
    }

    fn push_weights(&self, out: &mut String) {
        let prior = self.fitted.prior_millinats;
        let _ = write!(
            out,
            "## Fitted weights\n\nThousandths of a nat (natural logarithm of odds). A candidate's weights and the \
             prior, {prior}, add up to its log-odds against *none*; candidates and *none* then share the probability \
             of the change. The spread is one standard deviation. The bin of weight 0 and spread 0 is what a \
             feature's others are compared with.\n\n",
        );
        let weights = self.fitted.weights.iter().zip(&self.fitted.spreads).zip(&self.features);
        let rows = weights.flat_map(|((weights, spreads), feature)| {
            weights.iter().zip(spreads).zip(&feature.bins).map(|((weight, spread), bin)| {
                let odds = format!("× {}", significant((*weight as f64 / 1000.0).exp()));
                vec![inline(&feature.name), inline(bin), weight.to_string(), spread.to_string(), odds]
            })
        });
        push_table(out, &["Feature", "Value", "Weight", "Spread", "Odds"].map(str::to_owned), rows);
    }

    /// The reliability diagram of the first population's pairs of 5 % and more, as an SVG of 400 by 400. Its lines are
    /// of the current colour where it stands in a page, which it sets to suit a light or a dark scheme.
    pub fn svg(&self) -> String {
        let first = self.populations.first();
        let rows = first.map_or(&[][..], |first| &first.measures.shown.rows);
        let name = escaped(&shortened(first.map_or("", |first| &first.name)));
        let title = format!("Stated and true probabilities: {name}");
        let mut out = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 400 400\" width=\"400\" height=\"400\" \
             role=\"img\" class=\"reliability\" aria-labelledby=\"reliability-title reliability-desc\" \
             font-family=\"system-ui, sans-serif\" font-size=\"11\" fill=\"currentColor\" stroke=\"none\">\n\
             <title id=\"reliability-title\">{title}</title>\n<desc id=\"reliability-desc\">{}</desc>\n\
             <style>.reliability {{ color: #1d2433 }} \
             @media (prefers-color-scheme: dark) {{ .reliability {{ color: #e8eaf0 }} }}</style>\n",
            escaped(&described(rows)),
        );
        push_frame(&mut out, &name);
        let most = rows.iter().map(|row| row.rate.of).max().unwrap_or_default();
        rows.iter().for_each(|row| push_point(&mut out, row, most));
        if rows.is_empty() {
            out.push_str("<text x=\"216\" y=\"140\" text-anchor=\"middle\">No pairs of 5 % and more</text>\n");
        }
        out.push_str("</svg>\n");
        out
    }
}

/// What it is called, its value for a population, and how it is computed.
type Figure = (&'static str, fn(&Population) -> String, &'static str);

const SUMMARY: [Figure; 15] = [
    ("Changes", |p| p.measures.changes.to_string(), "Changes that were scored"),
    (
        "With a ticket",
        |p| p.measures.recall.of.to_string(),
        "Those known to belong to one; for the others *none* is right",
    ),
    ("Pairs", |p| p.measures.pairs.to_string(), "Candidates of all changes"),
    (
        "First choice is right (P@1)",
        |p| rate(p.measures.precision_at_1),
        "Of the changes with a ticket, those whose first choice is one of theirs",
    ),
    (
        "… by words alone",
        |p| baseline(p, |b| b.precision_at_1),
        "The same for the best ticket by BM25 (k1 = 1.2, b = 0.75)",
    ),
    (
        "Ticket is a candidate (recall)",
        |p| rate(p.measures.recall),
        "Of the changes with a ticket, those with one of theirs among the candidates",
    ),
    ("… by words alone", |p| baseline(p, |b| b.recall_at_8), "The same for the best eight tickets by BM25"),
    (
        "Brier score, pairs",
        |p| score(p.measures.brier_pairs),
        "Mean square of probability less truth (1 or 0) over all pairs; 0 is perfect",
    ),
    ("Brier score, first choices", |p| score(p.measures.brier_first), "The same over first choices"),
    (
        "Calibration error, first choices",
        |p| score_of(&p.measures.first, |c| c.error),
        "Ten equal bins of probability; distance between mean probability and true rate of each, weighted by its pairs",
    ),
    ("… by chance alone", |p| chance(&p.measures.first), CHANCE),
    ("… verdict", |p| verdict(&p.measures.first), VERDICT),
    (
        "Calibration error, pairs from 5 %",
        |p| score_of(&p.measures.shown, |c| c.error),
        "The same over all pairs of 5 % and more",
    ),
    ("… by chance alone", |p| chance(&p.measures.shown), "As for first choices"),
    ("… verdict", |p| verdict(&p.measures.shown), "As for first choices"),
];

const CHANCE: &str = "The error of a perfect model that states these probabilities: 500 samples drawn from them; mean, \
                      and what 95 % do not exceed";
const VERDICT: &str = "Whether the error is one that 95 % of those samples reach or stay below; that does not prove \
                       calibration, the fewer pairs the less";

fn baseline(population: &Population, of: fn(&Baseline) -> Rate) -> String {
    population.bm25.as_ref().map_or("not measured".to_owned(), |bm25| rate(of(bm25)))
}

fn score_of(calibration: &Calibration, of: fn(&Calibration) -> f64) -> String {
    score((calibration.pairs > 0).then(|| of(calibration)))
}

fn chance(calibration: &Calibration) -> String {
    format!("{}; {}", score_of(calibration, |c| c.chance_mean), score_of(calibration, |c| c.chance_95))
}

fn verdict(calibration: &Calibration) -> String {
    match calibration.pairs {
        0 => "no pairs",
        _ if calibration.holds() => "within chance",
        _ => "**beyond chance**",
    }
    .to_owned()
}

fn push_population(out: &mut String, population: &Population) {
    let measures = &population.measures;
    let _ = write!(
        out,
        "## {}\n\nBelieving every pair from a probability on. *Right*: of the believed pairs, those that are true \
         (precision). *Found*: of the true pairs, those that are believed (recall), where a change with a ticket but \
         no true candidate counts as one true pair. F1 is their harmonic mean.\n\n",
        inline(&population.name)
    );
    let thresholds = measures.thresholds.iter().map(threshold_cells);
    push_table(out, &["Believed from", "Right", "Found", "F1"].map(str::to_owned), thresholds);
    out.push_str(
        "What is stated beside what came true. *Stated*: mean probability, and mean ends of its band. *True*: the \
         share that is true. *Interval*: Wilson's 95 % interval of that share. It *holds* where the mean probability \
         lies in the interval; of honest rows about one in twenty does not.\n\n",
    );
    let tables = [
        ("Pairs from 5 % on, in bands", &measures.bands),
        ("Pairs from 5 % on, in bins", &measures.shown.rows),
        ("First choices, in bins", &measures.first.rows),
    ];
    for (what, rows) in tables {
        push_table(out, &[what, "Stated", "True", "Interval", "Holds"].map(str::to_owned), rows.iter().map(row_cells));
    }
}

fn threshold_cells(threshold: &Threshold) -> Vec<String> {
    let from = format!("{} %", threshold.from_bps / 100);
    vec![from, rate(threshold.precision), rate(threshold.recall), score(threshold.f1())]
}

fn row_cells(row: &Row) -> Vec<String> {
    let (low, high) = row.rate.wilson();
    vec![
        bin_name(row),
        format!("{} ({})", percent(row.probability), span(row.low, row.high)),
        rate(row.rate),
        span(low, high),
        if row.holds() { "yes" } else { "**no**" }.to_owned(),
    ]
}

fn push_table(out: &mut String, header: &[String], rows: impl Iterator<Item = Vec<String>>) {
    let rule = vec!["---".to_owned(); header.len()];
    for cells in [header.to_vec(), rule].into_iter().chain(rows) {
        // Writing to a String cannot fail, here and elsewhere.
        let _ = writeln!(out, "| {} |", cells.join(" | "));
    }
    out.push('\n');
}

fn bin_name(row: &Row) -> String {
    format!("{}–{} %", row.from_bps / 100, row.to_bps / 100)
}

fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}

fn span(low: f64, high: f64) -> String {
    format!("{:.1}–{:.1} %", 100.0 * low, 100.0 * high)
}

fn rate(rate: Rate) -> String {
    rate.value().map_or("none".to_owned(), |share| format!("{} ({} of {})", percent(share), rate.hits, rate.of))
}

fn score(score: Option<f64>) -> String {
    score.map_or("none".to_owned(), |score| format!("{score:.4}"))
}

/// Two digits, or all before the point.
fn significant(value: f64) -> String {
    let digits = (1.0 - value.max(1e-9).log10().floor()).max(0.0) as usize;
    format!("{value:.digits$}")
}

/// Foreign text within a line of Markdown: its characters, and none of their meanings.
fn inline(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if "\\`*[]<>|&#".contains(c) {
            out.push('\\');
        }
        out.push(if c.is_control() { ' ' } else { c });
    }
    out
}

/// Foreign text as content of an XML element.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            // XML has no place for them, not even escaped.
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

fn shortened(name: &str) -> String {
    if name.chars().count() <= TITLE_CHARS {
        return name.to_owned();
    }
    name.chars().take(TITLE_CHARS - 1).chain(['…']).collect()
}

/// The diagram in words.
fn described(rows: &[Row]) -> String {
    let mut out = "Across: the probability stated for pairs of 5 % and more. Up: the share of them that is true, with \
                   Wilson's 95 % interval. A calibrated model lies on the diagonal; larger points stand for more pairs."
        .to_owned();
    for row in rows {
        let _ = write!(out, " {}.", described_row(row));
    }
    out
}

fn described_row(row: &Row) -> String {
    let (low, high) = row.rate.wilson();
    format!(
        "{}: stated {}, true {}, interval {}",
        bin_name(row),
        percent(row.probability),
        rate(row.rate),
        span(low, high)
    )
}

fn across(share: f64) -> f64 {
    LEFT + WIDTH * share
}

fn up(share: f64) -> f64 {
    TOP + WIDTH * (1.0 - share)
}

fn push_frame(out: &mut String, name: &str) {
    let (right, bottom) = (across(1.0), up(0.0));
    let _ = writeln!(out, "<text x=\"{LEFT}\" y=\"24\" font-size=\"13\" font-weight=\"600\">{name}</text>");
    let _ = writeln!(out, "<g stroke=\"currentColor\" stroke-opacity=\"0.25\" fill=\"none\">");
    for tick in 0..=5 {
        let (x, y) = (across(f64::from(tick) / 5.0), up(f64::from(tick) / 5.0));
        let _ = writeln!(out, "<path d=\"M{LEFT} {y:.0}H{right}M{x:.0} {TOP}V{bottom}\"/>");
    }
    out.push_str("</g>\n");
    let _ = writeln!(
        out,
        "<path d=\"M{LEFT} {bottom}L{right} {TOP}\" stroke=\"currentColor\" stroke-opacity=\"0.6\" \
         stroke-dasharray=\"5 4\"/>"
    );
    for tick in 0..=5 {
        let (x, y) = (across(f64::from(tick) / 5.0), up(f64::from(tick) / 5.0));
        let label = format!("{} %", tick * 20);
        let _ = writeln!(out, "<text x=\"{x:.0}\" y=\"{}\" text-anchor=\"middle\">{label}</text>", bottom + 16.0);
        let _ = writeln!(out, "<text x=\"{}\" y=\"{:.0}\" text-anchor=\"end\">{label}</text>", LEFT - 6.0, y + 4.0);
    }
    let middle = across(0.5);
    let _ = writeln!(out, "<text x=\"{middle}\" y=\"394\" text-anchor=\"middle\">Stated probability</text>");
    let _ = writeln!(
        out,
        "<text transform=\"translate(13 {}) rotate(-90)\" text-anchor=\"middle\">Share that is true</text>",
        up(0.5)
    );
}

fn push_point(out: &mut String, row: &Row, most: usize) {
    let (low, high) = row.rate.wilson();
    let share = row.rate.value().unwrap_or_default();
    let x = across(row.probability);
    // A point's area grows with its pairs.
    let radius = LEAST_RADIUS + MORE_RADIUS * (row.rate.of as f64 / most.max(1) as f64).sqrt();
    let _ = writeln!(
        out,
        "<g><title>{}</title><path d=\"M{x:.1} {:.1}V{:.1}\" stroke=\"currentColor\" stroke-width=\"1.5\"/>\
         <circle cx=\"{x:.1}\" cy=\"{:.1}\" r=\"{radius:.1}\" fill-opacity=\"0.7\"/></g>",
        escaped(&described_row(row)),
        up(low),
        up(high),
        up(share),
    );
}

#[cfg(test)]
mod tests {
    use super::{
        super::measure::{Outcome, Scored, measure},
        *,
    };

    fn report(name: &str) -> Report {
        let pair = |bps: i64, truth| Scored { probability_bps: bps, low_bps: bps - 400, high_bps: bps + 400, truth };
        let one = |bps, truth| Outcome { candidates: vec![pair(bps, truth), pair(500, false)], has_truth: truth };
        let mut outcomes: Vec<Outcome> = (0..40).map(|i| one(2_500, i % 4 == 0)).collect();
        outcomes.extend((0..10).map(|i| one(9_000, i < 2)));
        Report {
            data: vec!["kafka".to_owned(), "spark".to_owned()],
            fitted_period: Period { from: "2015-01-01".to_owned(), until: "2019-01-01".to_owned() },
            fitted_with_ticket: Rate { hits: 300, of: 4_000 },
            months: 6,
            tested_period: Period { from: "2019-01-01".to_owned(), until: "2020-01-01".to_owned() },
            populations: vec![Population {
                name: name.to_owned(),
                measures: measure(&outcomes),
                bm25: Some(Baseline {
                    precision_at_1: Rate { hits: 3, of: 12 },
                    recall_at_8: Rate { hits: 6, of: 12 },
                }),
            }],
            features: vec![Feature { name: "age, hours".to_owned(), bins: ranges(&[-24, 0, 1]) }],
            fitted: Fitted {
                prior_millinats: -5_810,
                weights: vec![vec![-2_000, 0, 693, 5_000]],
                spreads: vec![vec![300, 0, 50, 70]],
            },
        }
    }

    /// Checks that tags are balanced and attributes quoted, and returns the text of all elements.
    fn parsed(xml: &str) -> Vec<(String, String)> {
        let (mut open, mut texts) = (Vec::<String>::new(), Vec::new());
        let mut parts = xml.split('<');
        assert_eq!(parts.next(), Some(""));
        for part in parts {
            let (tag, text) = part.split_once('>').unwrap();
            assert!(!text.contains('>') && tag.matches('"').count() % 2 == 0, "{part}");
            let entities = text.split('&').skip(1);
            entities.for_each(|rest| assert!(["amp;", "lt;", "gt;"].iter().any(|e| rest.starts_with(e)), "{rest}"));
            let name = tag.trim_start_matches('/').split([' ', '/']).next().unwrap();
            if tag.starts_with('/') {
                assert_eq!(open.pop().as_deref(), Some(name));
            } else if !tag.ends_with('/') {
                open.push(name.to_owned());
                texts.push((name.to_owned(), text.to_owned()));
            }
        }
        assert!(open.is_empty(), "{open:?}");
        texts
    }

    #[test]
    fn the_diagram_is_well_formed_whatever_the_name() {
        let svg = report("a <script> & \"b\"\u{1}").svg();
        let texts = parsed(&svg);
        assert_eq!(texts[1].1, "Stated and true probabilities: a &lt;script&gt; &amp; \"b\" ");
        assert!(
            texts[2].1.contains("20–30 %: stated 25.0 %, true 25.0 % (10 of 40), interval 14.2–40.2 %."),
            "{texts:?}"
        );
        assert!(texts.iter().all(|(name, _)| name != "script"));
        assert_eq!(svg.matches("<circle").count(), 3);
        let long = report(&"ä".repeat(100)).svg();
        assert!(long.contains(&format!(">{}…<", "ä".repeat(TITLE_CHARS - 1))));
    }

    #[test]
    fn points_lie_where_they_should() {
        let svg = report("x").svg();
        // 25 % across and up in a square of 320 whose lower left corner is at 56, 360; the interval around it.
        assert!(svg.contains("<path d=\"M136.0 314.6V231.4\""), "{svg}");
        assert!(svg.contains("<circle cx=\"136.0\" cy=\"280.0\" r=\"9.7\""), "{svg}");
        // 90 %, of which 20 % are true.
        assert!(svg.contains("<circle cx=\"344.0\" cy=\"296.0\" r=\"6.1\""), "{svg}");
    }

    #[test]
    fn a_report_of_nothing_has_a_diagram_and_no_figures() {
        let mut empty = report("x");
        empty.populations[0].measures = measure(&[]);
        assert!(empty.svg().contains("No pairs of 5 % and more"));
        assert!(empty.markdown().contains("| … verdict | no pairs |"));
        assert!(!empty.markdown().contains("NaN"));
        empty.populations.clear();
        parsed(&empty.svg());
        assert!(empty.markdown().contains("| Measure | How it is computed |\n"));
    }

    #[test]
    fn the_report_states_its_figures() {
        let markdown = report("open | closed").markdown();
        for line in [
            "Data: kafka, spark. The shipped weights were fitted on 4000 changes decided (merged, closed or committed) \
             from 2015-01-01 until before 2019-01-01, of which 300 belong to a ticket. The figures are of changes decided \
             from 2019-01-01 until before 2020-01-01, in periods of 6 months",
            "| Measure | open \\| closed | How it is computed |\n| --- | --- | --- |\n| Changes | 50 |",
            "| First choice is right (P@1) | 100.0 % (12 of 12) |",
            "| … by words alone | 25.0 % (3 of 12) |",
            "| … verdict | **beyond chance** |",
            "| 50 % | 20.0 % (2 of 10) | 16.7 % (2 of 12) | 0.1818 |",
            "| 20–30 % | 25.0 % (21.0–29.0 %) | 25.0 % (10 of 40) | 14.2–40.2 % | yes |",
            "| 80–100 % | 90.0 % (86.0–94.0 %) | 20.0 % (2 of 10) | 5.7–51.0 % | **no** |",
            "| age, hours | under -24 | -2000 | 300 | × 0.14 |\n| age, hours | -24 to -1 | 0 | 0 | × 1.0 |\n\
             | age, hours | 0 | 693 | 50 | × 2.0 |\n| age, hours | 1 or more | 5000 | 70 | × 148 |\n",
        ] {
            assert!(markdown.contains(line), "{line}\nis not in\n{markdown}");
        }
    }

    #[test]
    fn every_table_is_rectangular() {
        let markdown = report("a|b").markdown();
        let cells = |line: &str| line.replace("\\|", "").matches('|').count();
        let tables: Vec<&str> = markdown.split("\n\n").filter(|block| block.starts_with('|')).collect();
        assert_eq!(tables.len(), 6);
        for table in tables {
            let widths: Vec<usize> = table.lines().map(cells).collect();
            assert!(widths.len() > 2 && widths.iter().all(|width| *width == widths[0]), "{table}");
        }
    }
}
