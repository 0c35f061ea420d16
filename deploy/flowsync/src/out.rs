//! What commands print.
//!
//! Who reads it may have seen enough (`| head`): what prints then ends quietly, by an error that `main` knows. The macros of
//! the standard library would panic instead.

use std::{
    fmt,
    io::{self, Write},
};

use anyhow::Result;

/// As the shell tells of who is ended by a closed pipe: 128 and the number of the signal.
pub const READER_GONE: u8 = 141;

/// Nobody reads standard output any more.
#[derive(Debug)]
pub struct ReaderGone;

impl fmt::Display for ReaderGone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("nobody reads standard output any more")
    }
}

impl std::error::Error for ReaderGone {}

/// Writes to standard output.
pub fn bytes(bytes: &[u8]) -> Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(ReaderGone.into()),
        written => Ok(written?),
    }
}

/// Writes a line to standard output; see [`say`].
pub fn line(text: fmt::Arguments<'_>) -> Result<()> {
    bytes(format!("{text}\n").as_bytes())
}

/// Writes a line to standard error, if anybody reads it; see [`aside`].
pub fn beside(text: fmt::Arguments<'_>) {
    // There is nowhere left to say it.
    let _ = writeln!(io::stderr(), "{text}");
}

/// Goes on where nobody reads what it says: what is under way is to come to its end.
pub fn heard_or_not(said: Result<()>) -> Result<()> {
    match said {
        Err(error) if error.is::<ReaderGone>() => Ok(()),
        said => said,
    }
}

/// A line on standard output.
macro_rules! say {
    ($($arg:tt)*) => { $crate::out::line(format_args!($($arg)*)) };
}

/// A line on standard error.
macro_rules! aside {
    ($($arg:tt)*) => { $crate::out::beside(format_args!($($arg)*)) };
}

pub(crate) use {aside, say};
