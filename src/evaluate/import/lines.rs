//! Text files line by line, within a bound.

use std::io::Read as _;

use anyhow::{Context as _, anyhow, bail};

use super::{Input, MAX_LINE_BYTES};

/// Hands over each line that is not blank with its number from 1; an error is given its place.
pub fn each(
    input: &Input<'_>,
    mut take: impl FnMut(&str, usize) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    until(input, |line, number| take(line, number).map(|()| true))
}

/// The same, until `take` says that it has enough.
pub fn until(
    input: &Input<'_>,
    mut take: impl FnMut(&str, usize) -> anyhow::Result<bool>,
) -> anyhow::Result<()> {
    let shown = input.path.display();
    let mut reader = input.open()?;
    let mut buffer = Vec::new();
    for number in 1.. {
        buffer.clear();
        let read = std::io::BufRead::read_until(
            &mut reader.by_ref().take(MAX_LINE_BYTES),
            b'\n',
            &mut buffer,
        )
        .with_context(|| format!("{shown}, line {number}: the file cannot be read on"))?;
        if read == 0 {
            return Ok(());
        }
        if read as u64 == MAX_LINE_BYTES {
            bail!("{shown}, line {number}: longer than {MAX_LINE_BYTES} bytes; split the row");
        }
        let line = std::str::from_utf8(&buffer)
            .map_err(|error| anyhow!("{shown}, line {number}: not UTF-8: {error}; re-encode it"))?;
        if line.trim().is_empty() {
            continue;
        }
        let on =
            take(line, number).map_err(|error| anyhow!("{shown}, line {number}: {error:#}"))?;
        if !on {
            return Ok(());
        }
    }
    Ok(())
}
