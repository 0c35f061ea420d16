//! Rate limit per source: a token bucket for every pair of connector and peer address, in a table of bounded size (I9).
//!
//! A bucket is one number, the time at which it would be full again (the "generic cell rate algorithm"); a bucket that
//! is full says nothing and is forgotten when room is needed.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::Mutex,
    time::{Duration, Instant},
};

use crate::lock;

/// Who sends: the connector, and the peer's address where the server knows it.
pub(super) type Source = (&'static str, Option<IpAddr>);

pub(super) struct RateLimiter {
    per_token: Duration,
    burst: u32,
    sources_max: usize,
    full_at: Mutex<HashMap<Source, Instant>>,
}

impl RateLimiter {
    pub(super) fn new(per_sec: u32, burst: u32, sources_max: usize) -> Self {
        let per_token = Duration::from_secs(1) / per_sec.max(1);
        Self { per_token, burst: burst.max(1), sources_max, full_at: Mutex::default() }
    }

    /// Takes a token, or tells after which time one is there.
    pub(super) fn take(&self, source: Source, now: Instant) -> Result<(), Duration> {
        let mut table = lock(&self.full_at);
        if table.len() >= self.sources_max && !table.contains_key(&source) {
            table.retain(|_, full_at| *full_at > now);
            if table.len() >= self.sources_max {
                return Err(self.per_token * self.burst);
            }
        }
        let full_at = table.entry(source).or_insert(now);
        let next = (*full_at).max(now) + self.per_token;
        // The bucket is empty when it is full again only after `burst` tokens' time.
        match next.checked_duration_since(now + self.per_token * self.burst) {
            Some(wait) if !wait.is_zero() => Err(wait),
            _ => {
                *full_at = next;
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn peer(last: u8) -> Source {
        ("test", Some(IpAddr::from([192, 0, 2, last])))
    }

    #[test]
    fn a_burst_then_the_rate() {
        let limiter = RateLimiter::new(10, 5, 100);
        let start = Instant::now();
        let taken = |at: Duration| (0..100).take_while(|_| limiter.take(peer(1), start + at).is_ok()).count();
        assert_eq!(taken(Duration::ZERO), 5);
        let wait = limiter.take(peer(1), start).unwrap_err();
        assert_eq!(wait, Duration::from_millis(100));
        assert!(limiter.take(peer(2), start).is_ok(), "another source has its own bucket");
        assert!(limiter.take(peer(1), start + wait).is_ok());
        assert_eq!(taken(Duration::from_millis(350)), 2);
        assert_eq!(taken(Duration::from_secs(60)), 5, "never more than a burst");
    }

    #[test]
    fn the_table_is_bounded_and_forgets_full_buckets() {
        let limiter = RateLimiter::new(10, 5, 3);
        let start = Instant::now();
        for last in 0..3 {
            limiter.take(peer(last), start).unwrap();
        }
        assert!(limiter.take(peer(9), start).is_err(), "more sources at once than the table holds");
        assert!(limiter.take(peer(0), start).is_ok(), "those in it go on");
        assert!(limiter.take(peer(9), start + Duration::from_secs(1)).is_ok());
        assert_eq!(lock(&limiter.full_at).len(), 1);
    }
}
