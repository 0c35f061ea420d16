//! The dataflow: from facts to views, incrementally, on timely and differential.
//!
//! Architecture invariant: this crate knows nothing of tokio, Arrow, files, clocks or HTTP, nor of any connector: the
//! binary hands it the function that reads a signal. Its output is a pure function of the set of facts (I3).
//!
//! - [`job`]: workers, epochs in, [`flowsync_schemas::EpochDelta`]s out.
//! - [`cx`]: what a view is installed with: the facts, what other views share, where rows go.
//! - [`ops`]: the few shapes that views are made of.
//! - [`unstated`]: which ticket a change could belong to that names none; [`calibrate`] fits and measures its weights.
//! - [`views`]: one file a view, and the list [`views::ALL`].

pub mod calibrate;
pub mod cx;
pub mod job;
pub mod ops;
pub mod trace;
pub mod unstated;
pub mod views;

pub use job::{Base, Config, Job, JobError, Read, Restoring, RowsOf};
