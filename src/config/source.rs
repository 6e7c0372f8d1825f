//! Reading a configuration from TOML, the environment and JSON.
//!
//! All sources become one tree of fields that is laid over the defaults, read, and validated: so a mistake is reported in
//! the same words, with the path to its field, wherever it was made.

use serde_json::{Map, Value};

use super::NetworkConfig;
use crate::error::ConfigError;

/// What names of environment variables begin with.
const PREFIX: &str = "CPC_NET_";

impl NetworkConfig {
    /// Reads a TOML text over the defaults.
    ///
    /// # Errors
    /// With the field's path when a value is wrong, unknown or out of range; with the place when it isn't TOML.
    pub fn from_toml(text: &str) -> Result<Self, ConfigError> {
        Self::default().with_toml(text)
    }

    /// Reads a TOML text over this configuration.
    ///
    /// # Errors
    /// As [`from_toml`](Self::from_toml).
    pub fn with_toml(self, text: &str) -> Result<Self, ConfigError> {
        let fields: toml::Table = toml::from_str(text).map_err(|error| ConfigError::Syntax(error.to_string()))?;
        let fields = serde_json::to_value(fields).map_err(|error| ConfigError::Syntax(error.to_string()))?;
        self.with_json(fields)
    }

    /// Reads a JSON object over this configuration.
    ///
    /// # Errors
    /// With the field's path when a value is wrong, unknown or out of range.
    pub fn with_json(self, fields: Value) -> Result<Self, ConfigError> {
        let config = self.overlaid(fields)?;
        config.validate()?;
        Ok(config)
    }

    /// Reads the process's environment over this configuration: `CPC_NET_NETWORK`, `CPC_NET_LIMITS__MAX_PAYLOAD` and so on, a
    /// section and its field joined by two underscores; lists are separated by commas, or written as JSON. In a browser there is none.
    ///
    /// # Errors
    /// As [`with_variables`](Self::with_variables).
    pub fn with_env(self) -> Result<Self, ConfigError> {
        // Variables that are not Unicode can't be ours.
        let variables = std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value)));
        self.with_variables(variables.map(|(name, value)| (name, value.to_string_lossy().into_owned())))
    }

    /// Reads variables over this configuration, those whose names begin with `CPC_NET_`.
    ///
    /// # Errors
    /// With the field's path when a value is wrong, unknown or out of range.
    pub fn with_variables(self, variables: impl IntoIterator<Item = (String, String)>) -> Result<Self, ConfigError> {
        let mut config = self;
        for (name, text) in variables {
            let Some(path) = name.strip_prefix(PREFIX) else { continue };
            let path = path.to_ascii_lowercase();
            config = config.with_variable(&path, &text)?;
        }
        config.validate()?;
        Ok(config)
    }

    /// A variable's text says nothing of its type: the readings are tried in turn, and the field takes the one it can.
    fn with_variable(&self, path: &str, text: &str) -> Result<Self, ConfigError> {
        let list = text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(Value::from).collect();
        let readings = [Some(Value::from(text)), serde_json::from_str(text).ok(), Some(Value::Array(list))];
        let mut first_error = None;
        for reading in readings.into_iter().flatten() {
            let fields = path
                .split("__")
                .collect::<Vec<_>>()
                .into_iter()
                .rev()
                .fold(reading, |inner, key| Value::Object(Map::from_iter([(key.to_owned(), inner)])));
            match self.clone().overlaid(fields) {
                Ok(config) => return Ok(config),
                Err(error) => first_error = first_error.or(Some(error)),
            }
        }
        Err(first_error.expect("there is always at least the reading as text"))
    }

    fn overlaid(self, fields: Value) -> Result<Self, ConfigError> {
        let base = serde_json::to_value(self).map_err(|error| ConfigError::Syntax(error.to_string()))?;
        read_over(&base, fields.clone()).map_err(|error| {
            let (field, problem) = (path_to_mistake(&base, &fields), error.to_string());
            if field.is_empty() { ConfigError::Syntax(problem) } else { ConfigError::Field { field, problem } }
        })
    }
}

fn read_over(base: &Value, fields: Value) -> Result<NetworkConfig, serde_json::Error> {
    let mut tree = base.clone();
    overlay(&mut tree, fields);
    serde_json::from_value(tree)
}

/// Which of the fields can't be read, as `section.field` or `section.field[number]`; empty when it is none alone. It is
/// found by trying one after the other: to be told the path by what reads them would take a second copy of all that reads
/// a configuration, which every page would load.
fn path_to_mistake(base: &Value, fields: &Value) -> String {
    let (mut path, mut at) = (Vec::new(), fields);
    let fails = |path: &[&str], value: Value| {
        let alone =
            path.iter().rev().fold(value, |inner, key| Value::Object(Map::from_iter([((*key).to_owned(), inner)])));
        read_over(base, alone).is_err()
    };
    while let Value::Object(inner) = at {
        let wrong = inner.iter().find(|(key, value)| {
            path.push(key.as_str());
            let fails = fails(&path, (*value).clone());
            path.pop();
            fails
        });
        let Some((key, value)) = wrong else { break };
        path.push(key);
        at = value;
    }
    let items = at.as_array().map(Vec::as_slice).unwrap_or_default();
    let item = items.iter().position(|item| fails(&path, Value::Array(vec![item.clone()])));
    path.join(".") + &item.map(|number| format!("[{number}]")).unwrap_or_default()
}

/// Objects are merged, everything else is replaced.
fn overlay(base: &mut Value, over: Value) {
    match (base, over) {
        (Value::Object(base), Value::Object(over)) => {
            for (key, value) in over {
                overlay(base.entry(key).or_insert(Value::Null), value);
            }
        }
        (base, over) => *base = over,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::IceServer;

    fn variables(pairs: &[(&str, &str)]) -> Result<NetworkConfig, ConfigError> {
        let owned = pairs.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect::<Vec<_>>();
        NetworkConfig::default().with_variables(owned)
    }

    #[test]
    fn the_defaults_are_valid_and_survive_toml() {
        let config = NetworkConfig::default();
        config.validate().expect("the defaults keep their own bounds");
        let text = toml::to_string(&config).expect("can be written");
        assert_eq!(NetworkConfig::from_toml(&text).expect("can be read"), config);
    }

    #[test]
    fn toml_sets_what_it_names_and_nothing_else() {
        let config = NetworkConfig::from_toml(
            "network = \"chess\"\nlisten = [\"/ip4/127.0.0.1/tcp/0\"]\n[connections]\nping_interval = \"3s\"\ndial_timeout = 1500\n",
        )
        .expect("valid");
        assert_eq!(config.network, "chess");
        assert_eq!(config.listen.as_deref().map(<[_]>::len), Some(1));
        assert_eq!(config.connections.ping_interval, Duration::from_secs(3));
        assert_eq!(config.connections.dial_timeout, Duration::from_millis(1500));
        assert_eq!(config.limits, NetworkConfig::default().limits);
    }

    #[test]
    fn variables_of_every_type_are_read() {
        let config = variables(&[
            ("CPC_NET_NETWORK", "7"),
            ("CPC_NET_DISCOVERY__MDNS", "false"),
            ("CPC_NET_LIMITS__MAX_PAYLOAD", "1000"),
            ("CPC_NET_BOOTSTRAP", "/ip4/192.0.2.1/tcp/1, /ip4/192.0.2.2/tcp/2"),
            ("CPC_NET_DELIVERY__TIMEOUT", "2m"),
            ("CPC_NET_DATA_DIR", "here"),
            ("PATH", "not ours"),
        ])
        .expect("valid");
        assert_eq!(config.network, "7");
        assert!(!config.discovery.mdns);
        assert_eq!(config.limits.max_payload, 1000);
        assert_eq!(config.bootstrap.len(), 2);
        assert_eq!(config.delivery.timeout, Duration::from_secs(120));
        assert_eq!(config.data_dir.as_deref(), Some("here"));
    }

    #[test]
    fn servers_for_webrtc_are_given_as_a_browser_takes_them() {
        let config = NetworkConfig::from_toml(
            "[transport]\nice_servers = [{ urls = \"stun:stun.example\" }, { urls = [\"turns:turn.example\"], username = \"ada\", credential = \"secret\" }]\n",
        )
        .expect("valid");
        let expected = [IceServer::stun("stun:stun.example"), IceServer::turn("turns:turn.example", "ada", "secret")];
        assert_eq!(config.transport.ice_servers, expected);
        assert!(!format!("{config:?}").contains("secret"), "passwords stay out of logs");
        let variable = r#"[{"urls":"stun:stun.example"}]"#;
        let config = variables(&[("CPC_NET_TRANSPORT__ICE_SERVERS", variable)]).expect("valid");
        assert_eq!(config.transport.ice_servers, [IceServer::stun("stun:stun.example")]);
    }

    #[test]
    fn nonsense_names_its_field_and_what_is_allowed() {
        let cases: [(&str, &[&str]); 15] = [
            ("bootstrap = [\"/ip4/192.0.2.1/tcp/1\", \"nowhere\"]", &["bootstrap[1]"]),
            ("transport.ice_servers = [{ urls = 5 }]", &["transport.ice_servers[0]"]),
            ("[limits]\nmax_payload = 10\ngroups = \"many\"\n[delivery]\ntimeout = \"2m\"", &["limits.groups", "many"]),
            ("limits.max_payload = 0", &["limits.max_payload", "1 to 4194304 bytes"]),
            ("limits.max_payload = -3", &["limits.max_payload", "-3"]),
            ("connections.ping_interval = \"1 fortnight\"", &["connections.ping_interval", "30s"]),
            ("connections.retry_max = \"50ms\"", &["connections.retry_max", "100ms to 1h"]),
            ("bootstrap = [\"not an address\"]", &["bootstrap"]),
            ("bootstrap = [\"/ip4/1.2.3.4\"]", &["bootstrap", "can be dialled"]),
            ("colour = \"red\"", &["colour", "unknown field"]),
            ("network = \"two words\"", &["network", "1 to 32"]),
            ("transport.security = \"none\"", &["transport.security", "noise"]),
            (
                "transport.ice_servers = [{ urls = \"stun.example\" }]",
                &["transport.ice_servers", "stun:stun.example:3478"],
            ),
            ("transport.ice_servers = [{ urls = [] }]", &["transport.ice_servers", "1 to 8"]),
            ("transport.ice_servers = [{ urls = \"turn:turn.example\" }]", &["transport.ice_servers", "user name"]),
        ];
        for (text, parts) in cases {
            let error = NetworkConfig::from_toml(text).expect_err(text).to_string();
            for part in parts {
                assert!(error.contains(part), "{text}: {error:?} should mention {part:?}");
            }
        }
        assert!(matches!(NetworkConfig::from_toml("= ="), Err(ConfigError::Syntax(_))));
        let error = variables(&[("CPC_NET_LIMITS__MAX_PAYLOAD", "lots")]).expect_err("not a number").to_string();
        assert!(error.contains("limits.max_payload"), "{error}");
        let error = variables(&[("CPC_NET_LIMITS__NO_SUCH", "1")]).expect_err("unknown").to_string();
        assert!(error.contains("limits.no_such"), "{error}");
        assert!(matches!(NetworkConfig::default().with_json(Value::from(3)), Err(ConfigError::Syntax(_))));
    }
}
