//! The one integration-test binary. One module a subject; linking DataFusion is the bill, so it is paid once.

mod audit;
mod backup;
mod catalogue;
mod commands;
mod corrections;
mod damage;
mod facts;
mod histories;
mod identity;
mod jira_links;
mod judge;
mod kept;
mod kill;
mod layering;
mod learning;
mod linker;
mod oracle;
mod organisations;
mod privacy;
mod process;
mod python;
mod slt;
mod storage;
mod unstated;
mod upgrade;
