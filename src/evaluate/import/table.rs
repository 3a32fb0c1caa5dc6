//! Tables row by row: CSV, Parquet, and JSON Lines of flat objects.
//!
//! A nested column of Parquet or JSON is read as flat ones whose names are joined by dots, so
//! `results` with a struct `m` that has a `score` is the column `results.m.score`.

use std::fs::File;

use anyhow::{Context as _, anyhow};
use parquet::{
    file::reader::{FileReader as _, SerializedFileReader},
    record::{Field, Row},
};
use serde_json::{Map, Value};

use super::{Input, Storage, lines};

/// One row: its cells by column, in the file's order; cells without a value are left out.
pub struct Cells {
    /// `line 3` or `row 3`, for messages.
    pub place: String,
    /// The number in it.
    pub number: usize,
    /// Column and value.
    pub cells: Vec<(String, Value)>,
}

impl Cells {
    /// The value of a column.
    pub fn get(&self, column: &str) -> Option<&Value> {
        self.cells.iter().find(|(name, _)| name == column).map(|(_, value)| value)
    }

    /// A column as text; numbers are written out.
    pub fn text(&self, column: &str) -> Option<String> {
        Some(match self.get(column)? {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        })
    }
}

/// The columns of a table; of JSON Lines those of the first line.
pub fn columns(input: &Input<'_>) -> anyhow::Result<Vec<String>> {
    match input.storage {
        Storage::Csv => Ok(csv(input)?.1),
        Storage::Parquet => {
            let reader = parquet(input)?;
            let schema = reader.metadata().file_metadata().schema_descr();
            Ok(schema.columns().iter().map(|column| column.path().string()).collect())
        }
        Storage::Lines | Storage::List => Ok(input.first_fields()?.unwrap_or_default()),
    }
}

/// Hands over every row; an error is given its place.
pub fn each(
    input: &Input<'_>,
    mut take: impl FnMut(Cells) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let shown = input.path.display().to_string();
    let mut take = |row: Cells| {
        let place = row.place.clone();
        take(row).map_err(|error| anyhow!("{shown}, {place}: {error:#}"))
    };
    match input.storage {
        Storage::Csv => {
            let (mut reader, columns) = csv(input)?;
            for record in reader.records() {
                let record = record.map_err(|error| anyhow!("{shown}: {error}"))?;
                let number = record.position().map_or(0, csv::Position::line) as usize;
                let cells = columns
                    .iter()
                    .zip(&record)
                    .filter(|(_, cell)| !cell.is_empty())
                    .map(|(column, cell)| (column.clone(), Value::String(cell.to_owned())))
                    .collect();
                take(Cells { place: format!("line {number}"), number, cells })?;
            }
        }
        Storage::Parquet => {
            let reader = parquet(input)?;
            for (at, row) in reader.get_row_iter(None)?.enumerate() {
                let number = at + 1;
                let row = row.with_context(|| {
                    format!("{shown}, row {number}: the file cannot be read on (it may use a codec other than snappy or gzip; write it anew with one of these)")
                })?;
                let mut cells = Vec::new();
                flatten_row("", &row, &mut cells);
                take(Cells { place: format!("row {number}"), number, cells })?;
            }
            input.bar.inc(std::fs::metadata(input.path).map_or(0, |about| about.len()));
        }
        Storage::Lines | Storage::List => lines::each(input, |line, number| {
            let object: Map<String, Value> = serde_json::from_str(line)?;
            let mut cells = Vec::new();
            flatten_object("", object, &mut cells);
            take(Cells { place: format!("line {number}"), number, cells })
        })?,
    }
    Ok(())
}

type Csv = (csv::Reader<Box<dyn std::io::BufRead>>, Vec<String>);

fn csv(input: &Input<'_>) -> anyhow::Result<Csv> {
    let mut reader = csv::Reader::from_reader(input.open()?);
    let headers = reader.headers().map_err(|error| anyhow!("{}: {error}", input.path.display()))?;
    let columns = headers.iter().map(|name| name.trim_start_matches('\u{feff}').to_owned());
    let columns = columns.collect();
    Ok((reader, columns))
}

fn parquet(input: &Input<'_>) -> anyhow::Result<SerializedFileReader<File>> {
    let shown = input.path.display();
    let file = File::open(input.path).with_context(|| format!("{shown} cannot be read"))?;
    SerializedFileReader::new(file).with_context(|| format!("{shown} is no Parquet file"))
}

fn joined(prefix: &str, name: &str) -> String {
    if prefix.is_empty() { name.to_owned() } else { format!("{prefix}.{name}") }
}

fn flatten_row(prefix: &str, row: &Row, cells: &mut Vec<(String, Value)>) {
    for (name, field) in row.get_column_iter() {
        flatten_field(joined(prefix, name), field, cells);
    }
}

fn flatten_field(name: String, field: &Field, cells: &mut Vec<(String, Value)>) {
    match field {
        Field::Null => {}
        Field::Group(row) => flatten_row(&name, row, cells),
        Field::MapInternal(map) => {
            for (key, value) in map.entries() {
                let key = match key {
                    Field::Str(key) => key.clone(),
                    other => other.to_string(),
                };
                flatten_field(joined(&name, &key), value, cells);
            }
        }
        // A list of messages.
        Field::ListInternal(list) => {
            let items = list.elements().iter().map(value).collect();
            cells.push((name, Value::Array(items)));
        }
        plain => cells.push((name, value(plain))),
    }
}

/// A field as JSON; numbers that JSON does not have become null.
fn value(field: &Field) -> Value {
    match field {
        Field::Bool(value) => Value::Bool(*value),
        Field::Byte(value) => Value::from(*value),
        Field::Short(value) => Value::from(*value),
        Field::Int(value) => Value::from(*value),
        Field::Long(value) => Value::from(*value),
        Field::UByte(value) => Value::from(*value),
        Field::UShort(value) => Value::from(*value),
        Field::UInt(value) => Value::from(*value),
        Field::ULong(value) => Value::from(*value),
        Field::Float16(value) => Value::from(f64::from(*value)),
        Field::Float(value) => Value::from(f64::from(*value)),
        Field::Double(value) => Value::from(*value),
        Field::Str(text) => Value::String(text.clone()),
        // Text columns without the UTF-8 annotation come as bytes.
        Field::Bytes(bytes) => Value::String(String::from_utf8_lossy(bytes.data()).into_owned()),
        Field::Group(row) => Value::Object(
            row.get_column_iter().map(|(name, field)| (name.clone(), value(field))).collect(),
        ),
        Field::ListInternal(list) => list.elements().iter().map(value).collect(),
        Field::Null => Value::Null,
        other => Value::String(other.to_string()),
    }
}

fn flatten_object(prefix: &str, object: Map<String, Value>, cells: &mut Vec<(String, Value)>) {
    for (name, value) in object {
        let name = joined(prefix, &name);
        match value {
            Value::Null => {}
            Value::Object(object) => flatten_object(&name, object, cells),
            value => cells.push((name, value)),
        }
    }
}
