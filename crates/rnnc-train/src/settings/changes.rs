//! Settings changed beside the file: `training.learning_rate` and `1e-3`.

use toml_edit::{DocumentMut, Item, Table, Value};

/// The text with other values for some settings; comments, and all else, stay as they are.
pub(crate) fn changed(text: String, changes: &[(String, String)]) -> Result<String, String> {
    if changes.is_empty() {
        return Ok(text);
    }
    let mut document: DocumentMut = text.parse().map_err(|error| format!("{error}").trim_end().to_owned())?;
    for (name, value) in changes {
        let (section, key) = match name.split_once('.') {
            Some((section, key)) if !section.is_empty() && !key.is_empty() && !key.contains('.') => {
                (section, key)
            }
            _ => {
                return Err(format!(
                    "`{name}` is no name of a setting: it is a section, a point and a name, as in `training.learning_rate`"
                ));
            }
        };
        let value: Value = value.parse().unwrap_or_else(|_| value.as_str().into());
        let section = document.entry(section).or_insert_with(|| Item::Table(Table::new()));
        let Some(section) = section.as_table_like_mut() else {
            return Err(format!(
                "`{name}` cannot be set: the file has something else in place of its section"
            ));
        };
        match section.get_mut(key).and_then(Item::as_value_mut) {
            // With the comment behind it.
            Some(there) => {
                let decor = there.decor().clone();
                *there = value;
                *there.decor_mut() = decor;
            }
            None => drop(section.insert(key, Item::Value(value))),
        }
    }
    Ok(document.to_string())
}

#[cfg(test)]
mod tests {
    use super::changed;

    fn set(text: &str, name: &str, value: &str) -> Result<String, String> {
        changed(text.into(), &[(name.into(), value.into())])
    }

    const TEXT: &str = "# mine\n[training]\nwindow = 8 # frames\nloss = \"huber\"\n";

    #[test]
    fn a_value_is_replaced_and_comments_stay() {
        let text = set(TEXT, "training.window", "16").unwrap();
        assert_eq!(text, TEXT.replace("8", "16"));
    }

    #[test]
    fn a_setting_that_was_left_out_is_added_to_its_section() {
        assert_eq!(set(TEXT, "training.seed", "2").unwrap(), format!("{TEXT}seed = 2\n"));
        assert_eq!(set(TEXT, "run.threads", "1").unwrap(), format!("{TEXT}\n[run]\nthreads = 1\n"));
    }

    #[test]
    fn what_is_no_value_is_a_text() {
        assert!(set(TEXT, "training.loss", "cross_entropy").unwrap().contains("loss = \"cross_entropy\""));
        assert!(set(TEXT, "training.betas", "[0.5, 0.9]").unwrap().contains("betas = [0.5, 0.9]"));
        assert!(set(TEXT, "run.directory", "a b").unwrap().contains("directory = \"a b\""));
    }

    #[test]
    fn names_without_a_section_are_refused() {
        for name in ["window", ".window", "training.", "a.b.c", ""] {
            assert!(set(TEXT, name, "1").unwrap_err().contains("as in `training.learning_rate`"), "{name}");
        }
        assert!(set("training = 1\n", "training.window", "1").unwrap_err().contains("cannot be set"));
        assert!(set("training = [\n", "training.window", "1").is_err());
    }
}
