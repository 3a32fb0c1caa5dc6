//! Typed columns, written as a table, JSON, CSV or Parquet. Money stays decimal in each of them.

use std::{io::Write, sync::Arc};

use anyhow::Context as _;
use jiff::Timestamp;
use parquet::{
    basic::{ConvertedType, LogicalType, Repetition, TimeUnit, Type as Physical},
    data_type::{ByteArray, ByteArrayType, Int64Type},
    file::writer::{SerializedColumnWriter, SerializedFileWriter},
    schema::types::Type,
};
use serde::{Serialize, Serializer, ser::SerializeMap};
use serde_json::value::RawValue;

use super::table;
use crate::{ledger::export::csv_text, units::NanoUsd};

/// Digits of a Parquet decimal of 64 bits, and those behind the point.
const PRECISION: i32 = 18;
const SCALE: i32 = 9;

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holds {
    /// Text.
    Text,
    /// A number of things.
    Count,
    /// Nano-dollars, shown as dollars.
    Money,
    /// Milliseconds since 1970, shown in UTC.
    Time,
}

/// A cell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cell {
    /// In a column that holds [`Holds::Text`].
    Text(Option<String>),
    /// In any other.
    Number(Option<i64>),
}

/// See the module.
#[derive(Debug, Default)]
pub struct Sheet {
    /// Name and content of each column.
    pub columns: Vec<(String, Holds)>,
    /// As many cells each as there are columns.
    pub rows: Vec<Vec<Cell>>,
}

impl Sheet {
    /// Leaves columns out.
    pub fn drop_columns(&mut self, unwanted: impl Fn(&str) -> bool) {
        let keep: Vec<bool> = self.columns.iter().map(|(name, _)| !unwanted(name)).collect();
        let mut kept = keep.iter();
        self.columns.retain(|_| kept.next() != Some(&false));
        for row in &mut self.rows {
            let mut kept = keep.iter();
            row.retain(|_| kept.next() != Some(&false));
        }
    }

    /// Prints a table. `-` stands for what is missing.
    pub fn print(&self, out: &mut impl Write) -> anyhow::Result<()> {
        let headings = self.columns.iter().map(|(name, _)| name.to_uppercase().replace('_', " "));
        let line = |row: &Vec<Cell>| {
            let cells = row.iter().zip(&self.columns);
            cells.map(|(cell, (_, holds))| shown(cell, *holds).unwrap_or("-".to_owned())).collect()
        };
        let rows: Vec<Vec<String>> = self.rows.iter().map(line).collect();
        table::print(out, headings, &rows, |column| {
            self.columns.get(column).is_some_and(|(_, holds)| *holds != Holds::Text)
        })?;
        Ok(())
    }

    /// Prints one JSON array of objects, `null` for what is missing.
    pub fn print_json(&self, out: &mut impl Write) -> anyhow::Result<()> {
        let rows: Vec<Object<'_>> =
            self.rows.iter().map(|row| Object(&self.columns, row)).collect();
        serde_json::to_writer(&mut *out, &rows)?;
        Ok(writeln!(out)?)
    }

    /// Writes CSV with a line of headings, nothing for what is missing.
    pub fn write_csv(&self, out: impl Write) -> anyhow::Result<()> {
        let mut writer = csv::Writer::from_writer(out);
        writer.write_record(self.columns.iter().map(|(name, _)| name))?;
        for row in &self.rows {
            let cells = row.iter().zip(&self.columns);
            writer.write_record(cells.map(|(cell, (_, holds))| {
                let text = shown(cell, *holds).unwrap_or_default();
                if *holds == Holds::Text { csv_text(&text).into_owned() } else { text }
            }))?;
        }
        Ok(writer.flush()?)
    }

    /// Writes Parquet: text as UTF-8, counts as 64-bit integers, money as decimals of nine places,
    /// times as UTC timestamps. Every column may hold nulls.
    pub fn write_parquet(&self, out: impl Write + Send) -> anyhow::Result<()> {
        let fields = self.columns.iter().map(|(name, holds)| field(name, *holds));
        let fields = fields.collect::<Result<Vec<_>, _>>()?;
        let schema = Arc::new(Type::group_type_builder("schema").with_fields(fields).build()?);
        let mut writer = SerializedFileWriter::new(out, schema, Arc::default())?;
        let mut group = writer.next_row_group()?;
        for (at, (_, holds)) in self.columns.iter().enumerate() {
            let column = group.next_column()?.context("a column of the schema is missing")?;
            write_column(column, *holds, self.rows.iter().filter_map(|row| row.get(at)))?;
        }
        group.close()?;
        writer.close()?;
        Ok(())
    }
}

/// A cell as text; `None` when it is empty.
pub fn shown(cell: &Cell, holds: Holds) -> Option<String> {
    match cell {
        Cell::Text(text) => text.clone(),
        Cell::Number(number) => number.map(|number| match holds {
            Holds::Money => NanoUsd(number).to_string(),
            Holds::Time => Timestamp::from_millisecond(number)
                .map_or_else(|_| number.to_string(), |time| time.to_string()),
            Holds::Text | Holds::Count => number.to_string(),
        }),
    }
}

/// A row as a JSON object.
struct Object<'s>(&'s [(String, Holds)], &'s [Cell]);

impl Serialize for Object<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for ((name, holds), cell) in self.0.iter().zip(self.1) {
            match (cell, holds) {
                // The decimals as they are: a float would round them.
                (Cell::Number(Some(_)), Holds::Money) => {
                    let text = shown(cell, *holds).unwrap_or_default();
                    let number = RawValue::from_string(text).map_err(serde::ser::Error::custom)?;
                    map.serialize_entry(name, &number)?;
                }
                (Cell::Number(number), Holds::Count) => map.serialize_entry(name, number)?,
                _ => map.serialize_entry(name, &shown(cell, *holds))?,
            }
        }
        map.end()
    }
}

fn field(name: &str, holds: Holds) -> anyhow::Result<Arc<Type>> {
    let physical = if holds == Holds::Text { Physical::BYTE_ARRAY } else { Physical::INT64 };
    let field = Type::primitive_type_builder(name, physical)
        .with_repetition(Repetition::OPTIONAL)
        .with_converted_type(ConvertedType::NONE);
    let field = match holds {
        Holds::Text => field.with_logical_type(Some(LogicalType::String)),
        Holds::Count => field,
        Holds::Money => field
            .with_logical_type(Some(LogicalType::decimal(SCALE, PRECISION)))
            .with_precision(PRECISION)
            .with_scale(SCALE),
        Holds::Time => {
            field.with_logical_type(Some(LogicalType::timestamp(true, TimeUnit::MILLIS)))
        }
    };
    Ok(Arc::new(field.build().with_context(|| format!("column {name}"))?))
}

/// Nulls are no values, only levels of 0 among those of 1.
fn write_column<'c>(
    mut column: SerializedColumnWriter<'_>,
    holds: Holds,
    cells: impl Iterator<Item = &'c Cell>,
) -> anyhow::Result<()> {
    let (mut texts, mut numbers, mut present) = (Vec::new(), Vec::new(), Vec::new());
    for cell in cells {
        match cell {
            Cell::Text(text) => {
                present.push(i16::from(text.is_some()));
                texts.extend(text.as_deref().map(ByteArray::from));
            }
            Cell::Number(number) => {
                present.push(i16::from(number.is_some()));
                numbers.extend(number);
            }
        }
    }
    match holds {
        Holds::Text => column.typed::<ByteArrayType>().write_batch(&texts, Some(&present), None)?,
        _ => column.typed::<Int64Type>().write_batch(&numbers, Some(&present), None)?,
    };
    Ok(column.close()?)
}
