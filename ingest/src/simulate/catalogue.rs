//! What is written by hand: the first eight people, the first three projects with their first twenty tickets each, and
//! which of those take an unusual course. It is the whole of the demo, and the beginning of every larger organisation.
//! Everybody and everything here is invented.

/// Product manager, two engineers a project, and one who looks after production.
pub(super) const PEOPLE: [&str; 8] = ["Radia", "Ada", "Grace", "Barbara", "Edsger", "Katherine", "Alan", "Dennis"];

/// A project with its repository and its team.
#[derive(Debug)]
pub(super) struct Project {
    pub key: &'static str,
    pub name: &'static str,
    pub repo: &'static str,
    pub cost_centre: &'static str,
    /// Kind and title.
    pub tickets: [(&'static str, &'static str); 20],
    /// Pull requests that belong to no ticket.
    pub chores: [&'static str; 6],
}

/// The projects.
pub(super) static PROJECTS: [Project; 3] = [
    Project {
        key: "SHOP",
        name: "Shop (simulated)",
        repo: "simulated-org/shop-web",
        cost_centre: "CC-100",
        tickets: [
            ("Epic", "Checkout in one page"),
            ("Story", "Keep the basket across devices"),
            ("Story", "Show delivery dates before payment"),
            ("Bug", "Basket total ignores the second voucher"),
            ("Story", "Guest checkout without an account"),
            ("Task", "Move product images to the new bucket"),
            ("Bug", "Search returns sold-out articles first"),
            ("Story", "Remember the last delivery address"),
            ("Task", "Index articles nightly instead of hourly"),
            ("Bug", "Safari loses the session after a redirect"),
            ("Story", "Gift wrapping as an option"),
            ("Bug", "Prices flicker while the currency loads"),
            ("Story", "Compare up to four articles"),
            ("Task", "Drop the legacy recommendations endpoint"),
            ("Bug", "Empty search term answers 500"),
            ("Story", "Wish list that can be shared"),
            ("Task", "Cache category pages at the edge"),
            ("Story", "Rate articles after delivery"),
            ("Bug", "Order mail shows the wrong tax rate"),
            ("Incident", "Checkout answers 503 for a third of requests"),
        ],
        chores: [
            "Bump the web framework to its current minor version",
            "Fix a flaky basket test",
            "Tidy up the contribution guide",
            "Remove unused style sheets",
            "Pin the container base image",
            "Split the linter configuration",
        ],
    },
    Project {
        key: "PAY",
        name: "Payments (simulated)",
        repo: "simulated-org/payments",
        cost_centre: "CC-200",
        tickets: [
            ("Epic", "Pay by bank transfer"),
            ("New Feature", "Instant transfer through the open banking interface"),
            ("Bug", "Refund of a split payment books twice"),
            ("Story", "Store cards as network tokens"),
            ("Task", "Rotate the signing keys every quarter"),
            ("Story", "Retry declined cards the next morning"),
            ("Story", "Settlement report per merchant"),
            ("Bug", "Rounding differs between invoice and ledger"),
            ("Task", "Archive ledger entries older than seven years"),
            ("Story", "Ask for strong authentication only where required"),
            ("Bug", "Webhook retries stop after a restart"),
            ("New Feature", "Pay in three instalments"),
            ("Task", "Move the ledger to partitioned tables"),
            ("Bug", "Chargeback date is off by one day"),
            ("Story", "Hold large payments for review"),
            ("Task", "Document the reconciliation runbook"),
            ("Bug", "Currency conversion uses yesterday's rate"),
            ("Story", "Export settlements as CAMT.053"),
            ("Story", "Notify merchants of failed payouts"),
            ("Incident", "Payouts are delayed by four hours"),
        ],
        chores: [
            "Update the ledger client library",
            "Speed up the reconciliation tests",
            "Describe the local setup",
            "Delete dead feature flags",
            "Make log lines structured",
            "Raise the minimum compiler version",
        ],
    },
    Project {
        key: "APP",
        name: "Mobile app (simulated)",
        repo: "simulated-org/mobile-app",
        cost_centre: "CC-300",
        tickets: [
            ("Epic", "App works offline"),
            ("Story", "Read the order history without a connection"),
            ("Story", "Sync changes when the connection returns"),
            ("Bug", "Crash when the camera permission is withdrawn"),
            ("Story", "Sign in with a passkey"),
            ("Task", "Shrink the download by a third"),
            ("Bug", "Push messages arrive twice"),
            ("Story", "Scan a barcode to find an article"),
            ("Story", "Dark appearance"),
            ("Bug", "Keyboard covers the voucher field"),
            ("Task", "Collect startup times from the field"),
            ("Story", "Track a parcel on the map"),
            ("Bug", "Map drains the battery in the background"),
            ("Story", "Return an order from the app"),
            ("Task", "Replace the image loader"),
            ("Bug", "Accessibility labels are missing in the basket"),
            ("Story", "Widget with the next delivery"),
            ("Task", "Run the interface tests on every pull request"),
            ("Story", "Choose a pick-up point nearby"),
            ("Story", "Pay with the watch"),
        ],
        chores: [
            "Update the build tools",
            "Quarantine two unstable interface tests",
            "Sort translations by key",
            "Remove a workaround for an old system version",
            "Cache dependencies in the build",
            "Correct the issue template",
        ],
    },
];

/// What a ticket goes through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Course {
    /// Begun, built, reviewed, merged, done.
    Usual,
    /// Merged and deployed, but nobody moved the ticket: the tracker says open, the evidence says done.
    Forgotten,
    /// Moved to done without any work to be seen.
    OnlySaid,
    /// Deleted as a duplicate, before anything was done.
    Deleted,
    /// Renamed after an hour.
    Renamed,
    /// Waits for somebody else.
    Blocked,
    /// Its second pull request names no ticket; a person confirms the link.
    Confirmed,
    /// Its pull request mentions another ticket in passing; a person rejects that link.
    Rejected,
    /// Nobody ever begins it.
    Idle,
    /// Moved back from done, and done again.
    Reopened,
}

impl Course {
    /// The course of a ticket that is written by hand: project from 0, number from 1.
    pub const fn written(project: usize, number: u32) -> Self {
        match (project, number) {
            (0, 5 | 11) | (1, 4 | 13) | (2, 7) => Course::Forgotten,
            (1, 16) | (2, 11) => Course::OnlySaid,
            (0, 16) => Course::Deleted,
            (2, 3) => Course::Renamed,
            (1, 10) => Course::Blocked,
            (0, 8) => Course::Confirmed,
            (1, 6) => Course::Rejected,
            _ => Course::Usual,
        }
    }

    /// Courses of all other tickets, in basis points; the rest is usual. Those of the table above have the shares that
    /// they have in it (of 60). All are chosen.
    pub const SHARES: [(Course, u32); 8] = [
        (Course::Forgotten, 800),
        (Course::OnlySaid, 330),
        (Course::Renamed, 170),
        (Course::Blocked, 170),
        (Course::Confirmed, 170),
        (Course::Rejected, 170),
        (Course::Idle, 700),
        (Course::Reopened, 400),
    ];
}

/// What people say in the chat of the tickets that are written by hand: project from 0, number from 1, and a verb.
pub(super) const SAID: [(usize, u32, &str); 5] =
    [(0, 18, "start"), (0, 5, "deploy"), (1, 4, "deploy"), (2, 7, "done"), (1, 10, "block")];

/// The ticket, of the same project, that the pull request of the one written by hand mentions in passing.
pub(super) const MENTIONED: u32 = 2;
/// Title of the pull request that names no ticket.
pub(super) const UNNAMED: &str = "Say less in the address form";
