//! The report as one page that needs nothing else: style and plots are inside.

use std::fmt::Write as _;

use super::{
    Report, charts,
    svg::{STYLE, escaped},
};
use crate::evaluate::results::Results;

const PAGE: &str = "body{margin:2rem auto;max-width:60rem;padding:0 1rem;font:16px/1.5 system-ui,sans-serif;color:#1c2530;background:#fff}pre{overflow-x:auto;font:13px/1.45 ui-monospace,monospace}figure{margin:1.5rem 0}svg{width:100%;height:auto}h2{border-top:1px solid #8793a1;padding-top:1rem;margin-top:3rem}footer{color:#5d6875;font-size:.85rem}@media(prefers-color-scheme:dark){body{color:#e6ebf1;background:#161b22}footer{color:#a8b3bf}}";

/// The page of a run.
pub fn page(results: &Results<'_>) -> String {
    let title = results.suite.map_or_else(
        || results.reports.first().map_or_else(String::new, |report| report.name.clone()),
        str::to_owned,
    );
    let title = escaped(&title);
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width,initial-scale=1\"><title>{title} – weighbridge eval</title><style>{PAGE}{STYLE}</style></head><body><main><h1>{title}</h1>"
    );
    if let Some(about) = results.about {
        let _ = write!(page, "<p>{}</p>", escaped(about));
    }
    for (at, report) in results.reports.iter().enumerate() {
        section(&mut page, at, report);
    }
    let _ = writeln!(
        page,
        "</main><footer><p>weighbridge {} · {} · {}, {} cores<br><code>{}</code></p></footer></body></html>",
        escaped(results.version),
        escaped(&results.date),
        escaped(&results.machine.cpu),
        results.machine.cores,
        escaped(&results.command)
    );
    page
}

fn section(page: &mut String, at: usize, report: &Report) {
    let _ = write!(page, "<section><h2>{}</h2>", escaped(&report.name));
    for plot in charts::plots(report) {
        let id = format!("s{at}-{}", plot.key);
        let _ = write!(page, "<figure>{}</figure>", plot.chart.finish(&id, false));
    }
    // The tables for a terminal are text that a screen reader takes line by line.
    let _ = write!(page, "<pre tabindex=\"0\">{}</pre>", escaped(&report.to_string()));
    for source in &report.sources {
        let _ = write!(
            page,
            "<p><small>{}: {} rows, SHA-256 {}</small></p>",
            escaped(&source.file),
            source.rows,
            source.sha256
        );
    }
    page.push_str("</section>");
}
