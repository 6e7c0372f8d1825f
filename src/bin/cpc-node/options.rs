//! What several commands can be told, and how it becomes a configuration: defaults, then the file, then the
//! environment, then the flags.

use std::{path::PathBuf, time::Duration};

use clap::Args;
use cpc_net::{Multiaddr, NetworkConfig, error::ConfigError};

use crate::failure::Failure;

/// What every command that starts a node can be told.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct NodeOptions {
    /// Read settings from this TOML file
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Join the network by this node, best with its `/p2p/<peer id>`; can be repeated, and replaces the configured ones
    #[arg(long, value_name = "ADDR", value_parser = address)]
    pub(crate) bootstrap: Vec<Multiaddr>,
    /// The network's name: nodes of different names don't mix [default: cpc]
    #[arg(long, value_name = "NAME")]
    pub(crate) network: Option<String>,
    /// The folder that holds the identity and what else survives a restart
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<String>,
}

impl NodeOptions {
    /// Lays the file, the process's environment and these flags over the given defaults.
    pub(crate) fn over(&self, defaults: NetworkConfig) -> Result<NetworkConfig, Failure> {
        self.over_with(defaults, NetworkConfig::with_env)
    }

    /// As [`over`](Self::over), with the reading of the environment handed in.
    pub(crate) fn over_with(
        &self,
        defaults: NetworkConfig,
        environment: impl FnOnce(NetworkConfig) -> Result<NetworkConfig, ConfigError>,
    ) -> Result<NetworkConfig, Failure> {
        let mut config = defaults;
        if let Some(path) = &self.config {
            let shown = path.display();
            let text = std::fs::read_to_string(path)
                .map_err(|error| Failure::Usage(format!("--config {shown} can't be read: {error}")))?;
            config = config.with_toml(&text).map_err(|error| Failure::Usage(format!("{shown}: {error}")))?;
        }
        config =
            environment(config).map_err(|error| Failure::Usage(format!("the environment (CPC_NET_…): {error}")))?;
        if !self.bootstrap.is_empty() {
            config.bootstrap.clone_from(&self.bootstrap);
        }
        if let Some(network) = &self.network {
            config.network.clone_from(network);
        }
        if let Some(data_dir) = &self.data_dir {
            config.data_dir = Some(data_dir.clone());
        }
        config.validate()?;
        Ok(config)
    }
}

/// Where a node keeps its things unless told otherwise; `None` when the system knows no home folder.
pub(crate) fn default_data_dir() -> Option<String> {
    let folders = directories::ProjectDirs::from("", "", "cpc-net")?;
    folders.data_dir().to_str().map(str::to_owned)
}

/// What to say when there is no such place.
pub(crate) fn no_data_dir() -> Failure {
    Failure::Usage("this system names no home folder to keep the identity in; choose a folder with --data-dir".into())
}

/// Reads a multiaddr, for the command line.
pub(crate) fn address(text: &str) -> Result<Multiaddr, String> {
    text.parse::<Multiaddr>()
        .map_err(|error| format!("not a multiaddr ({error}); expected such as /ip4/192.0.2.1/tcp/4001"))
}

/// Reads how long a delivery may be tried; the bounds are those of `delivery.timeout`.
pub(crate) fn timeout(text: &str) -> Result<Duration, String> {
    const LEAST: Duration = Duration::from_secs(1);
    const MOST: Duration = Duration::from_secs(7 * 24 * 60 * 60);
    let duration =
        humantime::parse_duration(text).map_err(|error| format!("{error}; expected such as 30s, 500ms or 2m"))?;
    if (LEAST..=MOST).contains(&duration) { Ok(duration) } else { Err("allowed is 1s to 7days".into()) }
}

/// Reads a number of bytes, such as `500MB` or `2GiB`.
pub(crate) fn size(text: &str) -> Result<u64, String> {
    const EXPECTED: &str = "expected a number of bytes such as 500MB, 2GiB or 1000000";
    let digits = text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor = match unit.trim().to_ascii_lowercase().trim_end_matches('b') {
        "" => 1,
        "k" => 1000,
        "m" => 1000_u64.pow(2),
        "g" => 1000_u64.pow(3),
        "t" => 1000_u64.pow(4),
        "ki" => 1 << 10,
        "mi" => 1 << 20,
        "gi" => 1 << 30,
        "ti" => 1 << 40,
        _ => return Err(EXPECTED.into()),
    };
    let number = number.parse::<u64>().map_err(|_| EXPECTED.to_owned())?;
    number.checked_mul(factor).ok_or_else(|| format!("{text} is more than this program counts; {EXPECTED}"))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn environment(pairs: &[(&str, &str)]) -> impl FnOnce(NetworkConfig) -> Result<NetworkConfig, ConfigError> {
        let owned = pairs.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect::<Vec<_>>();
        move |config| config.with_variables(owned)
    }

    fn file(text: &str) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
        file.write_all(text.as_bytes()).expect("can be written");
        file
    }

    #[test]
    fn flags_win_over_the_environment_which_wins_over_the_file() {
        let file = file("network = \"file\"\ndata_dir = \"file\"\nagent = \"file\"\n[limits]\ngroups = 7\n");
        let options = NodeOptions {
            config: Some(file.path().to_owned()),
            bootstrap: vec!["/ip4/192.0.2.9/tcp/9".parse().expect("an address")],
            network: Some("flag".into()),
            data_dir: None,
        };
        let variables =
            [("CPC_NET_NETWORK", "env"), ("CPC_NET_DATA_DIR", "env"), ("CPC_NET_BOOTSTRAP", "/ip4/192.0.2.1/tcp/1")];
        let config = options.over_with(NetworkConfig::default(), environment(&variables)).expect("valid");
        assert_eq!(config.network, "flag");
        assert_eq!(config.data_dir.as_deref(), Some("env"));
        assert_eq!(config.agent, "file");
        assert_eq!(config.limits.groups, 7);
        assert_eq!(config.bootstrap, options.bootstrap, "a flag replaces a list, as a variable does");
        assert_eq!(config.delivery, NetworkConfig::default().delivery);
    }

    #[test]
    fn a_mistake_says_where_it_was_made_and_what_is_allowed() {
        let file = file("[limits]\nmax_payload = 0\n");
        let wrong_file = NodeOptions { config: Some(file.path().to_owned()), ..NodeOptions::default() };
        let missing_file = NodeOptions { config: Some("no/such/file.toml".into()), ..NodeOptions::default() };
        let wrong_flag = NodeOptions { network: Some("two words".into()), ..NodeOptions::default() };
        let file_name = file.path().display().to_string();
        type Variables<'text> = &'text [(&'text str, &'text str)];
        let cases: [(&NodeOptions, Variables, &[&str]); 4] = [
            (&wrong_file, &[], &[file_name.as_str(), "limits.max_payload", "1 to 4194304 bytes"]),
            (&missing_file, &[], &["--config", "no/such/file.toml"]),
            (&wrong_flag, &[], &["network", "two words", "1 to 32"]),
            (&NodeOptions::default(), &[("CPC_NET_LIMITS__GROUPS", "many")], &["environment", "limits.groups"]),
        ];
        for (options, variables, parts) in cases {
            let failure = options.over_with(NetworkConfig::default(), environment(variables)).expect_err("a mistake");
            assert_eq!(failure.exit_code(), 2, "{failure}");
            for part in parts {
                assert!(failure.to_string().contains(part), "{failure} should mention {part}");
            }
        }
    }

    #[test]
    fn texts_of_the_command_line_are_checked() {
        assert!(address("/ip4/127.0.0.1/tcp/1").is_ok());
        assert!(address("127.0.0.1:1").expect_err("not one").contains("/ip4/"));
        assert_eq!(timeout("2m"), Ok(Duration::from_secs(120)));
        assert!(timeout("5").expect_err("no unit").contains("30s"));
        assert!(timeout("10ms").expect_err("too short").contains("1s"));
        assert!(timeout("1y").expect_err("too long").contains("7days"));
        for (text, bytes) in [("7", 7), ("7B", 7), ("5kB", 5000), ("2 GiB", 2 << 30), ("1T", 1_000_000_000_000)] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for nonsense in ["", "GB", "1.5GB", "-1", "1XB", "99999999999T"] {
            assert!(size(nonsense).expect_err(nonsense).contains("500MB"));
        }
    }
}
