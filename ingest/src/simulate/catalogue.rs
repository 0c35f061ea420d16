//! Who works in the simulated organisation, on what. Everybody and everything here is invented.

/// A member of the organisation. The e-mail addresses are of a domain that cannot exist.
#[derive(Debug)]
pub(super) struct Person {
    pub name: &'static str,
    pub login: &'static str,
}

impl Person {
    pub fn email(&self) -> String {
        format!("{}@example.org", self.login)
    }
}

/// Product manager, two engineers a project, and one who looks after production.
pub(super) static PEOPLE: [Person; 8] = [
    Person { name: "Radia (simulated)", login: "radia" },
    Person { name: "Ada (simulated)", login: "ada" },
    Person { name: "Grace (simulated)", login: "grace" },
    Person { name: "Barbara (simulated)", login: "barbara" },
    Person { name: "Edsger (simulated)", login: "edsger" },
    Person { name: "Katherine (simulated)", login: "katherine" },
    Person { name: "Alan (simulated)", login: "alan" },
    Person { name: "Dennis (simulated)", login: "dennis" },
];

/// Product manager.
pub(super) const MANAGER: usize = 0;
/// Looks after production.
pub(super) const OPERATOR: usize = 7;

/// A project with its repository and its team.
#[derive(Debug)]
pub(super) struct Project {
    pub key: &'static str,
    pub name: &'static str,
    pub repo: &'static str,
    pub team: [usize; 2],
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
        team: [1, 2],
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
        team: [3, 4],
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
        team: [5, 6],
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

/// Where in [`Project::tickets`] things take an unusual course: project and number from 1.
pub(super) mod course {
    /// Merged and deployed, but nobody moved the ticket: the tracker says open, the evidence says done.
    pub const FORGOTTEN: [(usize, usize); 5] = [(0, 5), (0, 11), (1, 4), (1, 13), (2, 7)];
    /// Moved to done without any work to be seen.
    pub const ONLY_SAID: [(usize, usize); 2] = [(1, 16), (2, 11)];
    /// Deleted as a duplicate, before anything was done.
    pub const DELETED: (usize, usize) = (0, 16);
    /// Renamed after a day.
    pub const RENAMED: (usize, usize) = (2, 3);
    /// Waits for somebody else.
    pub const BLOCKED: (usize, usize) = (1, 10);
    /// Its second pull request names no ticket; a person confirms the link.
    pub const CONFIRMED: (usize, usize) = (0, 8);
    /// Its pull request mentions another ticket in passing; a person rejects that link.
    pub const REJECTED: ((usize, usize), usize) = ((1, 6), 2);
}
