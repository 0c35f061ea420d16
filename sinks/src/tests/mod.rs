//! Tests over real files: one module a question, on the support in `model.rs` and `fault.rs`.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod conformance;
mod crash;
mod fault;
mod model;
mod reconcile;
mod simulation;
pub(crate) mod specs;
mod upkeep;
mod writers;
