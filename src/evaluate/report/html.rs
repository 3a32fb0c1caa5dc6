//! The report as one page that needs nothing else: style and plots are inside.

use std::fmt::Write as _;

use super::{
    Report, charts,
    svg::{STYLE, escaped},
    text::Table,
};
use crate::evaluate::results::Results;

const PAGE: &str = "body{margin:2rem auto;max-width:66rem;padding:0 1rem;font:16px/1.5 system-ui,sans-serif;color:#1c2530;background:#fff;overflow-wrap:break-word}figure{margin:1.5rem 0}figcaption p{margin:.25rem 0 .75rem}figcaption p,footer{color:#515c69;font-size:.9rem}h2{border-top:1px solid #8793a1;padding-top:1rem;margin-top:3rem}h3{margin:2rem 0 .5rem;font-size:1.05rem}.wide{overflow-x:auto}.wide svg{display:block;width:100%;min-width:38rem;height:auto}table{border-collapse:collapse;font-size:.85rem;font-variant-numeric:tabular-nums}th,td{padding:.2rem .5rem;text-align:right;white-space:nowrap;border-bottom:1px solid #dde3ea}th:first-child{padding-left:0;text-align:left}th[scope=row]{font-weight:400}code{overflow-wrap:anywhere;font-size:.85em}@media(prefers-color-scheme:dark){body{color:#e6ebf1;background:#161b22}figcaption p,footer{color:#a8b3bf}th,td{border-color:#313b47}}";

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
        section(&mut page, at, report, results.suite.is_none());
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

fn section(page: &mut String, at: usize, report: &Report, is_only: bool) {
    let heading =
        if is_only { String::new() } else { format!("<h2>{}</h2>", escaped(&report.name)) };
    let _ = write!(
        page,
        "<section>{heading}<p>{}</p>",
        escaped(&report.summary()).replace('\n', "<br>")
    );
    for plot in charts::plots(report) {
        let id = format!("s{at}-{}", plot.key);
        let (title, description) = (plot.chart.title(), plot.chart.description());
        let _ = write!(
            page,
            "<figure><figcaption><h3>{}</h3><p>{}</p></figcaption><div class=\"wide\" tabindex=\"0\" role=\"group\" aria-label=\"{}\">",
            escaped(title),
            escaped(description),
            escaped(title),
        );
        let _ = write!(page, "{}</div></figure>", plot.chart.finish(&id, false));
    }
    for table in report.tables() {
        rows(page, &table);
    }
    page.push_str("<h3>Notes</h3><ul>");
    for note in &report.notes {
        let _ = write!(page, "<li>{}</li>", escaped(note));
    }
    page.push_str("</ul><h3>Files</h3><ul>");
    for source in &report.sources {
        let _ = write!(
            page,
            "<li>{}: {} rows, SHA-256 <code>{}</code></li>",
            escaped(&source.file),
            source.rows,
            source.sha256
        );
    }
    page.push_str("</ul></section>");
}

fn rows(page: &mut String, table: &Table) {
    let title = escaped(&table.title);
    let _ = write!(
        page,
        "<h3>{title}</h3><div class=\"wide\" tabindex=\"0\" role=\"group\" aria-label=\"{title}\"><table>"
    );
    for (at, row) in table.rows.iter().enumerate() {
        page.push_str("<tr>");
        for (column, cell) in row.iter().enumerate() {
            let (tag, scope) = match (at, column) {
                (0, _) => ("th", " scope=\"col\""),
                (_, 0) => ("th", " scope=\"row\""),
                _ => ("td", ""),
            };
            let _ = write!(page, "<{tag}{scope}>{}</{tag}>", escaped(cell));
        }
        page.push_str("</tr>");
    }
    page.push_str("</table></div>");
    for remark in &table.remarks {
        let _ = write!(page, "<p>{}</p>", escaped(remark));
    }
}
