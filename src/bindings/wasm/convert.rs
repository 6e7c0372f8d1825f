//! Between Rust's values and JavaScript's.

use js_sys::{Error, Reflect, Uint8Array};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use wasm_bindgen::JsValue;

use crate::{
    NetworkConfig, ReceivedMessage,
    error::{CommandError, ConfigError, ConnectError, DeliveryError, ParseError, SendError, StartError, TransferError},
};

/// What is thrown into JavaScript.
pub struct Failure(JsValue);

impl From<Failure> for JsValue {
    fn from(failure: Failure) -> Self {
        failure.0
    }
}

impl Failure {
    fn new(area: &str, code: &str, retryable: bool, message: &str) -> Self {
        let error = Error::new(message);
        for (name, value) in [("area", area.into()), ("code", code.into()), ("retryable", JsValue::from(retryable))] {
            // Setting a property of a fresh object doesn't fail.
            let _ = Reflect::set(&error, &name.into(), &value);
        }
        Self(error.into())
    }
}

/// An argument that is not what it should be.
pub(super) fn argument(message: String) -> Failure {
    Failure::new("argument", "invalid_argument", false, &message)
}

macro_rules! failures {
    ($($error:ty => $area:literal, $retryable:expr;)*) => {
        $(impl From<$error> for Failure {
            fn from(error: $error) -> Self {
                let retryable: fn(&$error) -> bool = $retryable;
                Failure::new($area, error.code(), retryable(&error), &error.to_string())
            }
        })*
    };
}

failures! {
    SendError => "send", SendError::is_retryable;
    ConnectError => "connect", ConnectError::is_retryable;
    CommandError => "command", CommandError::is_retryable;
    DeliveryError => "delivery", DeliveryError::is_retryable;
    TransferError => "transfer", TransferError::is_retryable;
    ParseError => "argument", |_| false;
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Self {
        match error {
            StartError::Config(error) => error.into(),
            error => Failure::new("start", error.code(), error.is_retryable(), &error.to_string()),
        }
    }
}

impl From<ConfigError> for Failure {
    /// The field is named as JavaScript writes it.
    fn from(error: ConfigError) -> Self {
        let (code, message) = (error.code(), error.to_string());
        let field = match &error {
            ConfigError::Field { field, .. } => field.as_str(),
            ConfigError::OutOfRange { field, .. } => field,
            ConfigError::Syntax(_) => "",
        };
        let message = if field.is_empty() { message } else { message.replacen(field, &camel_case(field), 1) };
        Failure::new("config", code, false, &message)
    }
}

/// A value in its serde view: structs as plain objects, absent values as null.
pub(super) fn to_js(value: &impl Serialize) -> Result<JsValue, Failure> {
    let serializer = serde_wasm_bindgen::Serializer::json_compatible();
    value.serialize(&serializer).map_err(|error| argument(format!("a value can't be shown in JavaScript: {error}")))
}

/// A value from its serde view.
pub(super) fn from_js<T: DeserializeOwned>(value: JsValue, what: &str) -> Result<T, Failure> {
    let shown = js_sys::JSON::stringify(&value).ok().and_then(|text| text.as_string()).unwrap_or_default();
    serde_wasm_bindgen::from_value(value).map_err(|error| argument(format!("{shown} is not {what}: {error}")))
}

/// A received message, its payload as bytes instead of numbers.
pub(super) fn message_to_js(message: &ReceivedMessage) -> Result<JsValue, Failure> {
    // The view without the payload, so that its bytes are not written out as numbers first.
    let view = to_js(&ReceivedMessage { payload: Default::default(), ..message.clone() })?;
    let set = Reflect::set(&view, &"payload".into(), &Uint8Array::from(&message.payload[..]));
    set.map(|_| view).map_err(|_| argument("a payload can't be shown in JavaScript".to_owned()))
}

/// A configuration from an object whose keys are in camel case.
pub(super) fn config_from_js(config: JsValue) -> Result<NetworkConfig, Failure> {
    if config.is_undefined() || config.is_null() {
        return Ok(NetworkConfig::default());
    }
    let fields: Value = serde_wasm_bindgen::from_value(config)
        .map_err(|error| argument(format!("the configuration is not a plain object: {error}")))?;
    if !fields.is_object() {
        return Err(argument("the configuration is not a plain object".to_owned()));
    }
    Ok(NetworkConfig::default().with_json(snake_case_keys(fields))?)
}

fn snake_case_keys(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            // What is undefined or null was not said.
            let said = fields.into_iter().filter(|(_, value)| !value.is_null());
            Value::Object(said.map(|(key, value)| (snake_case(&key), snake_case_keys(value))).collect())
        }
        other => other,
    }
}

fn snake_case(name: &str) -> String {
    let mut snake = String::with_capacity(name.len() + 4);
    for character in name.chars() {
        if character.is_ascii_uppercase() {
            snake.push('_');
        }
        snake.push(character.to_ascii_lowercase());
    }
    snake
}

fn camel_case(name: &str) -> String {
    let mut words = name.split('_');
    let first = words.next().unwrap_or_default().to_owned();
    words.fold(first, |mut camel, word| {
        let mut characters = word.chars();
        camel.extend(characters.next().map(|character| character.to_ascii_uppercase()));
        camel.push_str(characters.as_str());
        camel
    })
}
