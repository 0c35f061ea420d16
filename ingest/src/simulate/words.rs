//! Words that titles, messages and names are composed of, for everything that is not written by hand.
//!
//! A project has a theme, whose nouns recur in its titles, so that texts of one project resemble each other as in life.
//! A theme gives some 5,000 stories, 2,000 bugs and 1,000 tasks that differ. Everything is invented.

use fastrand::Rng;

use super::time::pick;

/// What the projects of a kind are about.
#[derive(Debug)]
pub(super) struct Theme {
    /// Beginning of the project's key.
    pub code: &'static str,
    pub name: &'static str,
    /// Without their article; all take "the".
    pub nouns: [&'static str; 10],
}

#[rustfmt::skip]
pub(super) static THEMES: [Theme; 20] = [
    Theme { code: "SRCH", name: "Search", nouns: ["suggestion list", "article ranking", "synonym dictionary", "filter panel", "search index", "result page", "spelling correction", "saved search", "facet count", "query log"] },
    Theme { code: "WHS", name: "Warehouse", nouns: ["pick list", "stock count", "pallet label", "receiving dock", "packing station", "bin location", "cycle count", "transfer order", "goods receipt", "hand scanner"] },
    Theme { code: "CARE", name: "Customer care", nouns: ["support queue", "canned answer", "call transcript", "complaint form", "escalation rule", "customer timeline", "satisfaction survey", "shift plan", "callback request", "agent desktop"] },
    Theme { code: "AUTH", name: "Identity", nouns: ["login page", "session token", "password reset", "access policy", "group mapping", "consent screen", "recovery code", "device list", "audit trail", "service account"] },
    Theme { code: "BILL", name: "Billing", nouns: ["invoice run", "dunning letter", "tax table", "credit note", "payment plan", "price list", "usage meter", "billing address", "contract renewal", "cost report"] },
    Theme { code: "FRD", name: "Fraud", nouns: ["risk score", "velocity rule", "block list", "case file", "device fingerprint", "review queue", "chargeback feed", "merchant profile", "alert threshold", "training set"] },
    Theme { code: "SHIP", name: "Shipping", nouns: ["carrier label", "route plan", "delivery window", "customs form", "parcel tracker", "driver app", "depot map", "return slip", "freight quote", "proof of delivery"] },
    Theme { code: "NTF", name: "Notifications", nouns: ["mail template", "push channel", "digest mail", "opt-out page", "bounce handler", "delivery receipt", "quiet hour", "language fallback", "sender domain", "message queue"] },
    Theme { code: "DATA", name: "Data platform", nouns: ["nightly export", "event schema", "data catalogue", "retention job", "ingest pipeline", "quality report", "feature store", "access request", "lineage graph", "backfill"] },
    Theme { code: "PRC", name: "Pricing", nouns: ["discount rule", "price history", "margin report", "competitor feed", "campaign calendar", "rounding rule", "currency table", "bundle offer", "loyalty tier", "price simulation"] },
    Theme { code: "HR", name: "People", nouns: ["leave request", "payslip", "onboarding list", "org chart", "time sheet", "expense report", "training plan", "applicant file", "review form", "travel booking"] },
    Theme { code: "OBS", name: "Observability", nouns: ["alert route", "trace view", "log index", "dashboard", "on-call roster", "error budget", "metric store", "status page", "probe", "incident timeline"] },
    Theme { code: "BLD", name: "Build platform", nouns: ["build cache", "runner pool", "artifact store", "release train", "dependency graph", "test report", "signing service", "merge queue", "preview environment", "base image"] },
    Theme { code: "CAT", name: "Catalogue", nouns: ["product page", "attribute editor", "image gallery", "variant table", "category tree", "import template", "size chart", "translation job", "article preview", "brand page"] },
    Theme { code: "PRT", name: "Partner portal", nouns: ["partner profile", "contract archive", "sales report", "order feed", "sandbox account", "rate card", "onboarding wizard", "support ticket", "commission statement", "webhook console"] },
    Theme { code: "MAP", name: "Maps", nouns: ["tile server", "address lookup", "route preview", "geofence", "pick-up point", "traffic layer", "store finder", "offline region", "position history", "zoom control"] },
    Theme { code: "DOCS", name: "Documents", nouns: ["document viewer", "signature page", "template editor", "archive rule", "full-text index", "scan inbox", "version history", "watermark", "share link", "approval flow"] },
    Theme { code: "CHAT", name: "Chat", nouns: ["message thread", "typing indicator", "file upload", "channel list", "mention badge", "emoji picker", "history export", "bot gateway", "read receipt", "call button"] },
    Theme { code: "BOOK", name: "Booking", nouns: ["booking calendar", "waiting list", "cancellation rule", "seat map", "voucher code", "group booking", "reminder mail", "resource plan", "check-in desk", "opening hours"] },
    Theme { code: "MEDIA", name: "Media", nouns: ["video player", "subtitle track", "upload form", "transcoder", "thumbnail job", "playlist", "live stream", "ad break", "rights window", "watch history"] },
];

const STORY: [&str; 25] = [
    "Show",
    "Filter",
    "Export",
    "Import",
    "Share",
    "Sort",
    "Archive",
    "Restore",
    "Schedule",
    "Preview",
    "Translate",
    "Validate",
    "Group",
    "Compare",
    "Merge",
    "Approve",
    "Annotate",
    "Pin",
    "Duplicate",
    "Print",
    "Rename",
    "Subscribe to",
    "Search",
    "Configure",
    "Undo changes to",
];
const STORY_TAIL: [&str; 20] = [
    "for returning customers",
    "on small screens",
    "per region",
    "without a reload",
    "in the weekly report",
    "before the deadline",
    "for administrators",
    "with one click",
    "across time zones",
    "by keyboard",
    "for two tenants at once",
    "from the command line",
    "in dark mode",
    "after accounts are merged",
    "while offline",
    "with a history of changes",
    "for partners",
    "in bulk",
    "at the end of the month",
    "during maintenance",
];
const BUG: [&str; 15] = [
    "is empty",
    "shows stale values",
    "is saved twice",
    "answers 500",
    "loses the last entry",
    "ignores the time zone",
    "is sorted wrongly",
    "hangs",
    "cannot be closed",
    "is cut off",
    "overlaps its label",
    "leaks memory",
    "rounds twice",
    "forgets the filter",
    "times out",
];
const BUG_TAIL: [&str; 15] = [
    "after a redirect",
    "on the last day of a month",
    "with more than 1,000 rows",
    "when two people save at once",
    "behind a proxy",
    "in private windows",
    "after the upgrade",
    "with umlauts",
    "on the first load",
    "when the session ends",
    "for archived entries",
    "under load",
    "after a failed retry",
    "in the evening batch",
    "without a default",
];
const TASK: [&str; 12] = [
    "Document",
    "Index",
    "Migrate",
    "Rotate the keys of",
    "Upgrade the library behind",
    "Remove dead code around",
    "Add metrics to",
    "Cache",
    "Load-test",
    "Rewrite the tests of",
    "Rate-limit",
    "Restructure",
];
const TASK_TAIL: [&str; 10] = [
    "",
    " before the audit",
    " for the new region",
    " in staging",
    " as a service of its own",
    " behind a flag",
    " in two steps",
    " (second part)",
    " without downtime",
    " for the next release",
];
const INCIDENT: [&str; 6] = [
    "answers 503",
    "is not available",
    "is delayed",
    "shows wrong data",
    "rejects valid requests",
    "uses up its connections",
];
const INCIDENT_TAIL: [&str; 6] = [
    "for a third of requests",
    "in one region",
    "for new accounts",
    "since this morning",
    "for partners",
    "every few minutes",
];
const CHORE: [&str; 12] = [
    "Bump the dependencies of",
    "Fix a flaky test of",
    "Tidy up",
    "Remove unused code of",
    "Pin the image of",
    "Split the configuration of",
    "Speed up the tests of",
    "Describe the setup of",
    "Delete dead flags of",
    "Make log lines structured in",
    "Raise the compiler version of",
    "Correct spelling in",
];
const MESSAGE: [&str; 14] = [
    "Extract the calculation of the",
    "Test the empty",
    "Guard against a missing",
    "Simplify the",
    "Wire up the",
    "Name the fields of the",
    "Handle errors of the",
    "Add a flag for the",
    "Cover the error path of the",
    "Speed up the",
    "Log failures of the",
    "Document the",
    "Use the new interface of the",
    "First version of the",
];
/// Messages that say nothing of what they are about; there are always some.
const PLAIN_MESSAGE: [&str; 10] = [
    "Add a test for the empty case",
    "Handle timeouts of the upstream service",
    "Make names say what they mean",
    "Keep the old behaviour behind a flag",
    "Move validation to the boundary",
    "Cover the error path",
    "Update snapshots",
    "First working version",
    "Address review comments",
    "Fix the build",
];

/// A title and what it is about.
pub(super) struct Titled {
    pub title: String,
    pub topic: String,
}

fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map(|first| first.to_ascii_uppercase().to_string() + letters.as_str()).unwrap_or_default()
}

/// A title for a ticket of a kind.
pub(super) fn title(rng: &mut Rng, theme: &Theme, kind: &str) -> Titled {
    let noun = *pick(rng, &theme.nouns);
    let title = match kind {
        "Bug" => format!("{} {} {}", sentence(noun), pick(rng, &BUG), pick(rng, &BUG_TAIL)),
        "Task" => format!("{} the {noun}{}", pick(rng, &TASK), pick(rng, &TASK_TAIL)),
        "Incident" => format!("{} {} {}", sentence(noun), pick(rng, &INCIDENT), pick(rng, &INCIDENT_TAIL)),
        "Epic" => format!("{}, {} generation", sentence(noun), pick(rng, &["second", "third", "next"])),
        _ => format!("{} the {noun} {}", pick(rng, &STORY), pick(rng, &STORY_TAIL)),
    };
    Titled { title, topic: noun.to_owned() }
}

/// A title for work that no ticket asks for.
pub(super) fn chore(rng: &mut Rng, theme: &Theme) -> Titled {
    let noun = *pick(rng, &theme.nouns);
    Titled { title: format!("{} the {noun}", pick(rng, &CHORE)), topic: noun.to_owned() }
}

/// What a title that was written by hand is about: its last words.
pub(super) fn topic(title: &str) -> String {
    let words: Vec<&str> = title.split_whitespace().collect();
    words[words.len().saturating_sub(2)..].join(" ").to_lowercase()
}

/// The message of a commit on a topic.
pub(super) fn message(rng: &mut Rng, topic: &str) -> String {
    if rng.u32(0..100) < 65 {
        format!("{} {topic}", pick(rng, &MESSAGE))
    } else {
        (*pick(rng, &PLAIN_MESSAGE)).to_owned()
    }
}

/// Words of a title in small letters, joined by hyphens.
pub(super) fn slug(title: &str, words: usize) -> String {
    let mut slug = String::with_capacity(40);
    for word in title.split(|c: char| !c.is_ascii_alphanumeric()).filter(|w| !w.is_empty()).take(words) {
        if !slug.is_empty() {
            slug.push('-');
        }
        slug.extend(word.chars().map(|c| c.to_ascii_lowercase()));
    }
    slug
}

#[rustfmt::skip]
const FIRST: [&str; 40] = [
    "Alma", "Bela", "Carla", "Dario", "Elif", "Fatou", "Goran", "Hana", "Ivo", "Jana", "Kofi", "Lena", "Mirko", "Nadia",
    "Oskar", "Petra", "Quim", "Rosa", "Selim", "Tove", "Umar", "Vera", "Wanda", "Xenia", "Yara", "Zoran", "Aiko", "Bruno",
    "Chidi", "Dalia", "Emre", "Freya", "Gita", "Hugo", "Ines", "Joao", "Kaya", "Luca", "Maya", "Noor",
];
#[rustfmt::skip]
const LAST: [&str; 40] = [
    "Ahlgren", "Barros", "Castell", "Demir", "Eriks", "Falk", "Gruber", "Horvat", "Iqbal", "Jansen", "Kimura", "Lopes",
    "Mensah", "Novak", "Okafor", "Prado", "Quist", "Rossi", "Sato", "Tanaka", "Ulrich", "Varga", "Weber", "Xu", "Yilmaz",
    "Zeman", "Abara", "Bosch", "Costa", "Duarte", "Egede", "Fonseca", "Gupta", "Haas", "Ito", "Juhasz", "Koller", "Lund",
    "Moreau", "Nyberg",
];

/// First and last name of the person with this number; the same two meet again after 1,600 people, as in life.
pub(super) fn name(number: usize) -> (&'static str, &'static str) {
    (FIRST[number % FIRST.len()], LAST[(number / FIRST.len() + number) % LAST.len()])
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn titles_are_many_and_plain() {
        let mut rng = Rng::with_seed(1);
        let mut titles = BTreeSet::new();
        for theme in &THEMES {
            for kind in ["Story", "Bug", "Task", "Incident", "Epic"] {
                titles.extend((0..400).map(|_| title(&mut rng, theme, kind).title));
            }
        }
        assert!(titles.len() > 15_000, "{}", titles.len());
        assert!(titles.iter().all(|t| !t.contains("  ") && t.starts_with(char::is_uppercase)), "{titles:?}");
        assert_eq!(slug("Show the pick list, on small screens", 4), "show-the-pick-list");
        assert_eq!(topic("Keep the basket across devices"), "across devices");
    }

    #[test]
    fn no_code_begins_another() {
        for a in &THEMES {
            assert!(THEMES.iter().all(|b| a.code == b.code || !b.code.starts_with(a.code)), "{}", a.code);
        }
    }
}
