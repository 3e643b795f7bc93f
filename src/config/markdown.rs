//! CONFIGURATION.md, printed from the table.

use super::definition::{
    Availability, DEFINITIONS, Definition, FAMILIES, INTERCEPTOR_PREFIX, Importance,
    TOPIC_DEFINITIONS, TOPIC_PREFIX,
};
use super::value::Kind;
use std::fmt::Write as _;

const HEAD: &str = "# Configuration

Printed from src/config/definition.rs. Do not edit: run `UPDATE=1 cargo test --test generated`.

Keys are Kafka's own, set as text: `producer_config_set(config, \"linger.ms\", \"5\", &error)`.
Blanks around a value are dropped; numbers are whole, without units or exponents; `true` and `false`
may be written in any case. An unknown key, a value out of its range and keys that contradict each
other are errors. What you set is never changed: where a default has to give way to it, one line at
INFO says so.
";

/// The whole document.
pub fn configuration_markdown() -> String {
    let mut page = String::from(HEAD);
    page += "\n| key | value | default | importance | what it does |\n|---|---|---|---|---|\n";
    for row in DEFINITIONS.iter().filter(|row| matches!(row.availability, Availability::Now)) {
        now_row(&mut page, row);
    }
    page += "
## Keys for one topic

NAME is the topic's. Where such a key is not set, the key without topic and name counts.

| key | value | default | importance | what it does |\n|---|---|---|---|---|\n";
    for row in TOPIC_DEFINITIONS {
        topic_row(&mut page, row);
    }
    page += "
## Keys for interceptors
";
    let _ = write!(
        page,
        "\nKeys that begin with `{INTERCEPTOR_PREFIX}` are kept as they are, to be read \
         with producer_config_get().\n"
    );
    page += "
## Not in this version

These keys of Kafka's and librdkafka's are known. They take the values that ask for nothing; any
other value is an error.

| key | accepted | without it |\n|---|---|---|\n";
    for row in DEFINITIONS {
        if let (Availability::Later(instead), Kind::OneOf(off)) = (row.availability, row.kind) {
            let off: Vec<_> = off.iter().map(|value| quoted(value)).collect();
            let off = if off.is_empty() { "nothing".into() } else { off.join(", ") };
            let _ = writeln!(page, "| {} | {off} | {instead} |", names(row));
        }
    }
    for family in FAMILIES {
        let accepted = quoted("");
        let _ = writeln!(page, "| `{}*` | {accepted} | {} |", family.prefix, family.instead);
    }
    page
}

fn topic_row(page: &mut String, row: &Definition) {
    let name = row.name;
    let mut names = format!("`{TOPIC_PREFIX}NAME.{name}`");
    for alias in row.aliases {
        let _ = write!(names, "<br>alias `{TOPIC_PREFIX}NAME.{alias}`");
    }
    let (value, importance) = (row.kind.describe(), importance(row));
    let _ = writeln!(page, "| {names} | {value} | `{name}` | {importance} | {} |", row.doc);
}

fn importance(row: &Definition) -> &'static str {
    match row.importance {
        Importance::High => "high",
        Importance::Medium => "medium",
        Importance::Low => "low",
    }
}

fn now_row(page: &mut String, row: &Definition) {
    let importance = importance(row);
    let _ = writeln!(
        page,
        "| {} | {} | {} | {importance} | {} |",
        names(row),
        row.kind.describe(),
        quoted(row.default),
        row.doc
    );
}

fn names(row: &Definition) -> String {
    let mut names = format!("`{}`", row.name);
    for alias in row.aliases {
        let _ = write!(names, "<br>alias `{alias}`");
    }
    names
}

fn quoted(value: &str) -> String {
    if value.is_empty() { "(empty)".into() } else { format!("`{value}`") }
}
