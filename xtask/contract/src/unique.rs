//! JSON in which no name may come twice in one object, since it would be unclear which of the two values is meant.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// Deserializes a JSON value; a name that comes twice in one object is an error.
pub(crate) fn value<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Value, D::Error> {
    Unique::deserialize(deserializer).map(|unique| unique.0)
}

struct Unique(Value);

impl<'de> Deserialize<'de> for Unique {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(UniqueVisitor).map(Self)
    }
}

struct UniqueVisitor;

impl<'de> Visitor<'de> for UniqueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("a number that is not finite"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(Unique(value)) = sequence.next_element()? {
            list.push(value);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(name) = map.next_key::<String>()? {
            let Unique(value) = map.next_value()?;
            if object.contains_key(&name) {
                return Err(A::Error::custom(format_args!("the name {name:?} comes twice in one object")));
            }
            object.insert(name, value);
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::Request;

    fn params(text: &str) -> Result<serde_json::Value, String> {
        let line = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"check","params":{text}}}"#);
        serde_json::from_str::<Request>(&line).map(|request| request.params).map_err(|error| error.to_string())
    }

    #[test]
    fn a_name_that_comes_twice_is_an_error_at_any_depth() {
        for text in [r#"{"passed":false,"passed":true}"#, r#"{"a":[{"b":{"c":1,"c":1}}]}"#] {
            assert!(params(text).unwrap_err().contains("comes twice"), "{text}");
        }
    }

    #[test]
    fn all_else_is_read_as_ever() {
        let text = r#"{"a":[1,-2,2.5,18446744073709551615,true,null,"ü\n",{"b":{}}],"b":{"a":1}}"#;
        assert_eq!(params(text).unwrap(), serde_json::from_str::<serde_json::Value>(text).unwrap());
        assert_eq!(params("null").unwrap(), json!(null));
    }
}
