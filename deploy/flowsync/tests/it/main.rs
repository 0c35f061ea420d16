//! The one integration-test binary. One module a subject; linking DataFusion is the bill, so it is paid once.

mod judge;
mod layering;
mod oracle;
