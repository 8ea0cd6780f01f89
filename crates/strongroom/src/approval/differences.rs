//! What differs between the plan that was signed and the plan as it would be now, in words.

use std::collections::BTreeMap;

use serde_json::Value;

/// The most characters of a value that are shown.
const SHOWN_MAX: usize = 120;
/// What tells the things in a list apart, most telling first.
const NAMES: [&str; 7] = [
    "repository",
    "asset",
    "path",
    "original",
    "label",
    "writer",
    "sequence",
];

/// A line for each difference; none where they are equal.
pub(super) fn differences(signed: &Value, now: &Value) -> Vec<String> {
    let mut found = Vec::new();
    compare("", signed, now, &mut found);
    found
}

fn compare(place: &str, signed: &Value, now: &Value, found: &mut Vec<String>) {
    if signed == now {
        return;
    }
    match (signed, now) {
        (Value::Object(left), Value::Object(right)) => {
            let mut keys: Vec<&String> = left.keys().chain(right.keys()).collect();
            keys.sort();
            keys.dedup();
            for key in keys {
                let of = |object: &serde_json::Map<String, Value>| {
                    object.get(key).cloned().unwrap_or(Value::Null)
                };
                let place = if place.is_empty() {
                    key.clone()
                } else {
                    format!("{place}.{key}")
                };
                compare(&place, &of(left), &of(right), found);
            }
        }
        (Value::Array(left), Value::Array(right)) => lists(place, left, right, found),
        _ => found.push(format!(
            "{place}: signed is {}, now it is {}",
            shown(signed),
            shown(now)
        )),
    }
}

/// Things of a list are told apart by their names, so that one that is new does not make all after it differ.
fn lists(place: &str, signed: &[Value], now: &[Value], found: &mut Vec<String>) {
    let (left, right) = (by_name(signed), by_name(now));
    let before = found.len();
    for (name, one) in &left {
        match right.get(name) {
            Some(other) => compare(&format!("{place}[{name}]"), one, other, found),
            None => found.push(format!("{place}: {name} is signed, and is not in it now")),
        }
    }
    for name in right.keys().filter(|name| !left.contains_key(*name)) {
        found.push(format!("{place}: {name} is in it now, and is not signed"));
    }
    if found.len() == before {
        found.push(format!("{place}: the order is another one"));
    }
}

fn by_name(values: &[Value]) -> BTreeMap<String, &Value> {
    let mut named = BTreeMap::new();
    for value in values {
        let mut name = name(value);
        while named.contains_key(&name) {
            name.push_str(" (again)");
        }
        named.insert(name, value);
    }
    named
}

fn name(value: &Value) -> String {
    let parts = NAMES.iter().filter_map(|key| value.get(key));
    let parts: Vec<String> = parts.map(shown).collect();
    if parts.is_empty() {
        shown(value)
    } else {
        parts.join(" ")
    }
}

fn shown(value: &Value) -> String {
    let text = match value {
        Value::Null => "nothing".to_owned(),
        Value::String(text) => text.escape_debug().to_string(),
        other => other.to_string(),
    };
    match text.char_indices().nth(SHOWN_MAX) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_difference_is_told_once_and_by_name() {
        let item =
            |path: &str, size: u64| json!({ "asset": "config", "path": path, "size_bytes": size });
        let signed =
            json!({ "label": "a", "items": [item("/a", 1), item("/b", 2)], "expired": {} });
        let now = json!({ "label": "a", "items": [item("/new", 1), item("/b", 3)], "expired": { "w": [[1, 2]] } });
        assert_eq!(differences(&signed, &signed), Vec::<String>::new());
        assert_eq!(
            differences(&signed, &now),
            [
                "expired.w: signed is nothing, now it is [[1,2]]",
                "items: config /a is signed, and is not in it now",
                "items[config /b].size_bytes: signed is 2, now it is 3",
                "items: config /new is in it now, and is not signed",
            ]
        );
    }

    #[test]
    fn no_difference_is_lost() {
        let one = json!(["x", "y", "y"]);
        for other in [
            json!(["y", "x", "y"]),
            json!(["x", "y"]),
            json!(["x", "y", "y", "y"]),
            json!("x"),
        ] {
            assert!(!differences(&one, &other).is_empty(), "{other}");
            assert!(!differences(&other, &one).is_empty(), "{other}");
        }
    }
}
