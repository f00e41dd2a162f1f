//! `[training]` of a file, whose keys are the section's own and, beside them, the optimizer's name and settings: which these are, its
//! rule says.

use rnnc_plan::optimizers::{Setting, SettingKind};
use rnnc_plan::{Optimizer, OptimizerSettings};
use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error, IntoDeserializer, MapAccess, Visitor};
use serde::ser::{SerializeMap, Serializer};
use std::fmt;

/// The key of the optimizer's name.
const NAME: &str = "optimizer";

/// Reads a section with the keys of `T`, and beside them those of an optimizer.
pub(crate) fn with_optimizer<'de, D: Deserializer<'de>, T>(
    section: D,
    read: impl FnOnce(Section<'_, D>) -> Result<T, D::Error>,
) -> Result<(T, OptimizerSettings), D::Error> {
    let mut given = Given::default();
    let own = read(Section { section, given: &mut given })?;
    Ok((own, given.settings().map_err(D::Error::custom)?))
}

/// Writes the keys of an optimizer.
pub(crate) fn optimizer_keys<S: Serializer>(settings: &OptimizerSettings, to: S) -> Result<S::Ok, S::Error> {
    let mut keys = to.serialize_map(None)?;
    keys.serialize_entry(NAME, &settings.optimizer())?;
    for (setting, values) in settings.each() {
        match (setting.kind, values) {
            (SettingKind::Number, [number]) => keys.serialize_entry(setting.name, number)?,
            (SettingKind::Flag, [flag]) => keys.serialize_entry(setting.name, &(*flag != 0.0))?,
            _ => keys.serialize_entry(setting.name, values)?,
        }
    }
    keys.end()
}

/// What is said of the optimizer.
#[derive(Default)]
struct Given {
    optimizer: Optimizer,
    settings: Vec<(&'static Setting, Vec<f64>)>,
}

impl Given {
    fn settings(self) -> Result<OptimizerSettings, String> {
        self.settings.iter().try_fold(
            OptimizerSettings::new(self.optimizer),
            |settings, (setting, values)| {
                settings.with(setting.name, values).map_err(|_| {
                    let has =
                        |optimizer: &Optimizer| optimizer.settings().iter().any(|s| s.name == setting.name);
                    let whose = Optimizer::ALL
                        .into_iter()
                        .filter(has)
                        .map(|optimizer| format!("{:?}", optimizer.name()));
                    format!(
                        "`{}` is no setting of {:?}: leave it out, or write `optimizer = {}`",
                        setting.name,
                        self.optimizer.name(),
                        whose.collect::<Vec<_>>().join("` or `optimizer = ")
                    )
                })
            },
        )
    }
}

/// A section whose keys of the optimizer are kept back.
pub(crate) struct Section<'a, D> {
    section: D,
    given: &'a mut Given,
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Section<'_, D> {
    type Error = D::Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.section.deserialize_any(visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        inner: V,
    ) -> Result<V::Value, D::Error> {
        self.section.deserialize_struct(name, fields, Keys { inner, fields, given: self.given })
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

/// The keys of a section, given on without those of the optimizer.
struct Keys<'a, I> {
    inner: I,
    /// The section's own.
    fields: &'static [&'static str],
    given: &'a mut Given,
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Keys<'_, V> {
    type Value = V::Value;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.expecting(out)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<V::Value, A::Error> {
        self.inner.visit_map(Keys { inner: map, fields: self.fields, given: self.given })
    }
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Keys<'_, A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, mut seed: K) -> Result<Option<K::Value>, A::Error> {
        loop {
            match self.inner.next_key_seed(Key { seed, fields: self.fields })? {
                None => return Ok(None),
                Some(Found::Own(key)) => return Ok(Some(key)),
                Some(Found::Optimizer(back)) => {
                    self.given.optimizer = self.inner.next_value()?;
                    seed = back;
                }
                Some(Found::Setting(setting, back)) => {
                    let values = self.inner.next_value_seed(ValuesOf(setting))?;
                    self.given.settings.push((setting, values));
                    seed = back;
                }
            }
        }
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, A::Error> {
        self.inner.next_value_seed(seed)
    }
}

/// A key, while it is read: an error has its place in the file.
struct Key<K> {
    seed: K,
    fields: &'static [&'static str],
}

enum Found<K, V> {
    /// The section's own.
    Own(V),
    /// The optimizer's name; and what is to read the next key.
    Optimizer(K),
    /// One of its settings.
    Setting(&'static Setting, K),
}

impl<'de, K: DeserializeSeed<'de>> DeserializeSeed<'de> for Key<K> {
    type Value = Found<K, K::Value>;

    fn deserialize<D: Deserializer<'de>>(self, key: D) -> Result<Self::Value, D::Error> {
        let name = String::deserialize(key)?;
        // One name is of one kind, and has as many values, whichever optimizer has it.
        let mut settings = Optimizer::ALL.into_iter().flat_map(Optimizer::settings);
        if name == NAME {
            return Ok(Found::Optimizer(self.seed));
        }
        if let Some(setting) = settings.find(|setting| setting.name == name) {
            return Ok(Found::Setting(setting, self.seed));
        }
        if self.fields.contains(&&*name) {
            return self.seed.deserialize(name.into_deserializer()).map(Found::Own);
        }
        let mut known = self.fields.to_vec();
        known.push(NAME);
        for setting in Optimizer::ALL.into_iter().flat_map(Optimizer::settings) {
            if !known.contains(&setting.name) {
                known.push(setting.name);
            }
        }
        Err(D::Error::custom(format!("unknown field `{name}`, expected one of `{}`", known.join("`, `"))))
    }
}

/// Reads the values of a setting.
struct ValuesOf(&'static Setting);

impl<'de> DeserializeSeed<'de> for ValuesOf {
    type Value = Vec<f64>;

    fn deserialize<D: Deserializer<'de>>(self, value: D) -> Result<Vec<f64>, D::Error> {
        match self.0.kind {
            SettingKind::Number => Ok(vec![f64::deserialize(value)?]),
            SettingKind::Flag => Ok(vec![f64::from(u8::from(bool::deserialize(value)?))]),
            SettingKind::List => {
                // Of an array, the reader would leave the rest unread.
                let (values, count) = (Vec::deserialize(value)?, self.0.default.len());
                match values.len() == count {
                    true => Ok(values),
                    false => {
                        Err(D::Error::invalid_length(values.len(), &&*format!("a list of {count} numbers")))
                    }
                }
            }
        }
    }
}
