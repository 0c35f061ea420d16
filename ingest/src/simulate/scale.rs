//! How large a simulated organisation is, and how disorderly.

/// How large, how long, how disorderly.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scale {
    /// People, from 1 on.
    pub people: u32,
    /// Tickets; about 27 deliveries come with each.
    pub tickets: u64,
    /// Calendar days before the end.
    pub days: u32,
    /// What goes wrong on the way, and how often.
    pub disorder: Disorder,
}

impl Scale {
    /// The organisation of `flowsync demo`, most of it written by hand.
    pub const DEMO: Scale = Scale { people: 8, tickets: 60, days: 45, disorder: Disorder::MILD };

    /// People and days that fit a number of tickets, with [`Disorder::LIFE`].
    ///
    /// A person closes about four tickets a month here, which is a choice: five for each developer (two working days of
    /// work on tickets each, and as much for everything else), and one person in five manages or operates. The history is
    /// three months long below 1,000 people and a year at 20,000 and more.
    pub fn of_tickets(tickets: u64) -> Scale {
        const A_PERSON_AND_MONTH: u64 = 4;
        let people = |days: u64| (tickets * 30).div_ceil(A_PERSON_AND_MONTH * days).max(8);
        let days = match people(90) {
            small if small <= 1_000 => 90,
            middle if middle <= 10_000 => 180,
            _ => 365,
        };
        let people = u32::try_from(people(days)).unwrap_or(u32::MAX);
        Scale { people, tickets, days: days as u32, disorder: Disorder::LIFE }
    }
}

/// How often things go wrong, in basis points: of deliveries, or of what each field says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Disorder {
    /// Deliveries that come again, in the same bytes.
    pub redelivered_bps: u32,
    /// Deliveries that come hours late.
    pub late_bps: u32,
    /// Deliveries that come seconds to minutes late, and so after younger ones.
    pub out_of_order_bps: u32,
    /// Deliveries, beside the others, that are signed and cannot be read. Spread evenly, so that the demo has exactly one.
    pub unreadable_bps: u32,
    /// Deliveries, beside the others, that are signed with a wrong secret.
    pub forged_bps: u32,
    /// Pull requests and comments that are edited later.
    pub edited_bps: u32,
    /// Tickets, comments and worklogs that are deleted later.
    pub deleted_bps: u32,
    /// Pull requests whose branch is rebased and pushed by force.
    pub force_pushed_bps: u32,
    /// Tickets that are moved to another project, which changes their key.
    pub moved_bps: u32,
    /// Projects whose key is changed, of all projects.
    pub renamed_projects: u32,
}

impl Disorder {
    /// Everything arrives, once, in order, and nothing is changed later.
    pub const NONE: Disorder = Disorder {
        redelivered_bps: 0,
        late_bps: 0,
        out_of_order_bps: 0,
        unreadable_bps: 0,
        forged_bps: 0,
        edited_bps: 0,
        deleted_bps: 0,
        force_pushed_bps: 0,
        moved_bps: 0,
        renamed_projects: 0,
    };

    /// The demo's: exactly one of its deliveries is not understood, and none is forged.
    pub const MILD: Disorder = Disorder {
        redelivered_bps: 30,
        late_bps: 160,
        out_of_order_bps: 100,
        unreadable_bps: 6,
        edited_bps: 1_500,
        ..Self::NONE
    };

    /// As in life.
    ///
    /// - Redelivered: at most 1 %, since Atlassian asks for at least 99 % of webhooks to succeed at first ("Webhook delivery
    ///   success rate", developer.atlassian.com, 28 days) and sends failed ones of Jira again. GitHub sends none again by
    ///   itself ("Handling failed webhook deliveries", docs.github.com); people do.
    /// - Everything else is chosen: no public figure is known to us.
    pub const LIFE: Disorder = Disorder {
        redelivered_bps: 100,
        late_bps: 100,
        out_of_order_bps: 300,
        unreadable_bps: 5,
        forged_bps: 3,
        edited_bps: 1_500,
        deleted_bps: 150,
        force_pushed_bps: 1_500,
        moved_bps: 150,
        renamed_projects: 200,
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_and_days_fit_the_tickets() {
        for (tickets, people, days) in [(60, 8, 90), (2_000, 167, 90), (40_000, 1_667, 180), (1_000_000, 20_548, 365)] {
            let scale = Scale::of_tickets(tickets);
            assert_eq!((scale.people, scale.days), (people, days), "{tickets}");
        }
    }
}
