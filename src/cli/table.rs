//! Tables for people.

use std::io::Write;

/// Prints headings and rows in columns as wide as their widest cell, two spaces apart. Columns of
/// numbers stand to the right. Control characters, which a terminal would follow, become U+FFFD.
pub fn print<R: AsRef<[String]>>(
    out: &mut impl Write,
    headings: impl IntoIterator<Item = impl Into<String>>,
    rows: &[R],
    is_number: impl Fn(usize) -> bool,
) -> std::io::Result<()> {
    let headings: Vec<String> = headings.into_iter().map(Into::into).collect();
    let lines = || std::iter::once(headings.as_slice()).chain(rows.iter().map(R::as_ref));
    let mut widths = vec![0; headings.len()];
    for line in lines() {
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = (*width).max(cell.chars().count());
        }
    }
    for line in lines() {
        let cells = line.iter().zip(&widths).enumerate().map(|(column, (cell, &width))| {
            let cell = cell.replace(char::is_control, "\u{fffd}");
            if is_number(column) { format!("{cell:>width$}") } else { format!("{cell:<width$}") }
        });
        writeln!(out, "{}", cells.collect::<Vec<_>>().join("  ").trim_end())?;
    }
    Ok(())
}
