//! All settings of `train.toml`, with what each is: made of the types that read it, and of the optimizers' rules.

use crate::settings::config::Config;
use crate::settings::errors::SECTIONS;
use rnnc_plan::Optimizer;
use schemars::schema_for;
use serde_json::Value;

/// A setting.
#[derive(Clone, Debug, PartialEq)]
pub struct SettingDescription {
    /// `training`
    pub section: &'static str,
    /// `learning_rate`
    pub name: String,
    /// How its value is written: `number`, `list of texts`.
    pub kind: &'static str,
    /// Its value if it is left out, as the file would have it; `None` if there is none.
    pub default: Option<String>,
    /// Whether it must be there.
    pub is_required: bool,
    /// What it is, in sentences.
    pub description: String,
}

/// All settings, by section and name; those of an optimizer alone stand in [`Optimizer::settings`].
pub fn settings() -> Vec<SettingDescription> {
    let schema = schema_for!(Config).to_value();
    let mut all = vec![optimizer()];
    for section in SECTIONS {
        let Some((_, of_section)) = properties(&schema).find(|(name, _)| *name == section) else { continue };
        let of_section = resolved(&schema, of_section);
        for (name, setting) in properties(of_section) {
            let default = setting.get("default").filter(|default| !default.is_null());
            all.push(SettingDescription {
                section,
                name: name.clone(),
                kind: kind(resolved(&schema, setting)),
                default: default.map(Value::to_string),
                is_required: required(of_section, name),
                description: text(setting, "description").replace('\n', " "),
            });
        }
    }
    let place = |section| SECTIONS.iter().position(|&name| name == section);
    all.sort_by(|a, b| (place(a.section), &a.name).cmp(&(place(b.section), &b.name)));
    all
}

/// The one that its type leaves out, for it stands beside settings of its own.
fn optimizer() -> SettingDescription {
    SettingDescription {
        section: "training",
        name: "optimizer".into(),
        kind: "text",
        default: Some(format!("{:?}", Optimizer::default().name())),
        is_required: false,
        description: format!(
            "What moves the weights: `{}`. Its own settings stand beside it; they are below.",
            Optimizer::NAMES.join("`, `")
        ),
    }
}

/// The settings as tables of Markdown, one a section: what docs/training.md has.
pub fn settings_page() -> String {
    let mut page = String::new();
    let all = settings();
    let mut section = "";
    let mut line = |text: String| page.extend([&*text, "\n"]);
    for setting in &all {
        if setting.section != section {
            if !section.is_empty() {
                line(String::new());
            }
            section = setting.section;
            line(format!("| `[{section}]` | value | if left out | |\n| --- | --- | --- | --- |"));
        }
        let default = match (&setting.default, setting.is_required) {
            (_, true) => "must be there".into(),
            (Some(default), _) => format!("`{default}`"),
            (None, _) => "none".into(),
        };
        line(format!("| `{}` | {} | {default} | {} |", setting.name, setting.kind, setting.description));
    }
    page
}

fn properties(schema: &Value) -> impl Iterator<Item = (&String, &Value)> {
    schema.get("properties").and_then(Value::as_object).into_iter().flatten()
}

fn required(schema: &Value, name: &str) -> bool {
    let names = schema.get("required").and_then(Value::as_array);
    names.is_some_and(|names| names.iter().any(|required| required == name))
}

fn text<'a>(schema: &'a Value, key: &str) -> &'a str {
    schema.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// What a reference within the schema leads to: a type is described once.
fn resolved<'a>(root: &'a Value, schema: &'a Value) -> &'a Value {
    let optional = schema.get("anyOf").and_then(|any| any.get(0)).unwrap_or(schema);
    let name = text(optional, "$ref").strip_prefix("#/$defs/");
    name.and_then(|name| root.get("$defs")?.get(name)).unwrap_or(optional)
}

/// How a value is written.
fn kind(schema: &Value) -> &'static str {
    // Of an optional one the second is `null`.
    let of_type = schema.get("type").map(|of| of.get(0).unwrap_or(of));
    match of_type.and_then(Value::as_str) {
        Some("integer") => "whole number",
        Some("number") => "number",
        Some("boolean") => "`true` or `false`",
        Some("array") => {
            match schema.get("items").and_then(|items| items.get("type")).and_then(Value::as_str) {
                Some("number") => "list of numbers",
                _ => "list of texts",
            }
        }
        _ => "text",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::config::tests::SMALL;
    use std::path::Path;

    const MARKS: [&str; 2] =
        ["<!-- settings: made by `rnnc config --reference` -->\n", "<!-- end of settings -->"];

    #[test]
    fn the_page_of_settings_is_what_the_types_say() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/training.md");
        let page = std::fs::read_to_string(path).unwrap();
        let (before, rest) = page.split_once(MARKS[0]).unwrap();
        let (there, after) = rest.split_once(MARKS[1]).unwrap();
        let made = settings_page();
        if there != made && std::env::var_os("RNNC_WRITE_SETTINGS").is_some() {
            let [begin, end] = MARKS;
            std::fs::write(path, format!("{before}{begin}{made}{end}{after}")).unwrap();
            return;
        }
        assert_eq!(there, made, "RNNC_WRITE_SETTINGS=1 cargo test -p rnnc-train --lib page_of_settings");
    }

    #[test]
    fn every_setting_is_described_and_its_default_is_what_a_file_without_it_has() {
        let all = settings();
        assert!(all.len() > 30, "{all:?}");
        let config = Config::parse(SMALL.into(), Path::new("")).unwrap();
        let effective: toml::Table = config.effective().unwrap().parse().unwrap();
        for setting in &all {
            assert!(setting.description.ends_with('.') && setting.description.len() > 10, "{setting:?}");
            let value = effective[setting.section].get(&setting.name);
            let given = SMALL.contains(&format!("\n{} = ", setting.name));
            match (&setting.default, setting.is_required || given) {
                (_, true) => {}
                (Some(default), _) => {
                    let value = serde_json::to_string(value.unwrap()).unwrap();
                    assert_eq!(&value, default, "{setting:?}");
                }
                (None, _) => assert_eq!(value, None, "{setting:?}"),
            }
        }
    }
}
