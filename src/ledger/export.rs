//! What leaves the ledger for other programs.

use std::borrow::Cow;

/// A text as a cell of CSV. Callers choose tags and names: one that a spreadsheet would run as a
/// formula gets an apostrophe in front (OWASP, "CSV Injection").
pub fn csv_text(text: &str) -> Cow<'_, str> {
    if text.starts_with(['=', '+', '-', '@', '\t', '\r']) {
        Cow::Owned(format!("'{text}"))
    } else {
        Cow::Borrowed(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_no_formula() {
        for (text, cell) in [
            ("=HYPERLINK(\"http://x\")", "'=HYPERLINK(\"http://x\")"),
            ("+1", "'+1"),
            ("-1", "'-1"),
            ("@SUM(A1)", "'@SUM(A1)"),
            ("\t=1", "'\t=1"),
            ("research", "research"),
            ("a=b", "a=b"),
            ("", ""),
        ] {
            assert_eq!(csv_text(text), cell);
        }
    }
}
