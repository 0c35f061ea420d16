//! Reports: one file each, built on SQL over one snapshot, so that a report never mixes epochs (I4).
//!
//! They know views by their columns, and nothing of how views are computed or where they are stored.

pub mod finance;
pub mod format;
pub mod rows;
