//! The command line: what can be asked for, and the help.

use crate::{bench::options::Options, steps};

/// What the person wants.
#[derive(Debug, PartialEq, Eq)]
pub enum Command {
    Help(String),
    Demo,
    Test(Choice),
    Wasm,
    Types,
    Lint,
    Coverage,
    Setup,
    Bench(Options),
    BenchBrowser(Vec<String>),
}

/// Which steps of the tests.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Choice {
    /// Indices of steps; empty means all.
    pub only: Vec<usize>,
    /// Just tell what there is.
    pub list: bool,
    /// Go on after a step that failed.
    pub keep_going: bool,
}

const COMMANDS: [(&str, &str, &str); 8] = [
    ("demo", "build everything, start a node and print the address of its page", DEMO),
    ("test", "run every test, or one step of them", TEST),
    ("lint", "check the formatting, clippy for both targets, and the documentation", LINT),
    ("wasm", "build what the npm package wraps: js/wasm", WASM),
    ("types", "write what is generated again: TypeScript types, Rust code of the wire", TYPES),
    ("bench", "measure messages beside TCP and libp2p, or the browser's transports", BENCH),
    ("coverage", "measure how much of the code the native tests reach", COVERAGE),
    ("setup", "bring all tools into place, and do nothing else", SETUP),
];

const DEMO: &str = "\
Builds the wasm package, the page and the node, starts the node, and prints the address of the page.
Open it in two tabs and write something. Posts that the node hears are printed as they come.

The node keeps running until Ctrl-C; then it says goodbye to its peers and ends.

It wants these ports: TCP 8080 for the page (this machine only), TCP 4001 and 4002, UDP 4001 and 4003 for
peers. Where one is taken, any free one is used instead.

The first time takes a quarter of an hour on two cores, nearly all of it compiling; later it takes seconds.
";

const TEST: &str = "\
Runs every test, step by step, and stops at the first step that fails. The first time takes about half an hour
on two cores; most of it is compiling, which is not done again.

Options:
  --list           tell which steps there are, and run nothing
  --only <STEP>    run just this step, by its name or number; may be given several times.
                   What the step needs from others is built
  --keep-going     run the remaining steps after one has failed
";

const LINT: &str = "\
Checks the formatting (`cargo fmt` would mend it), runs clippy on everything for this machine and for the browser,
and builds the documentation. Every warning counts as an error.
";

const WASM: &str = "\
Compiles the crate for the browser, small (profile `web`), and puts wasm-bindgen's output into js/wasm, where the
npm package takes it from. A module that would not load in a browser is refused.
";

const TYPES: &str = "\
Writes the generated files of the repository again from their sources: the TypeScript declarations in
js/src/generated from the Rust types, and the Rust code of the wire from proto/cpc.proto. Commit the result; a test
fails when it is not what the sources say.
";

const COVERAGE: &str = "\
Runs the native tests with instrumented code and prints the percentage of lines they reach, file by file and in all.
Fails below 80 percent. Everything is compiled once more for this, beside the usual build.
";

const BENCH: &str = "\
`cargo xtask bench` measures cpc-net's messages beside raw TCP, libp2p's request-response and a raw libp2p stream: the
same work on loopback, in processes of their own, in turns. The table tells medians and ratios, and whether the bars that
the project has set were reached. Takes some four minutes on a quiet machine, the first time ten minutes more for
compiling. A machine that does anything else meanwhile tells little.

Options:
  --rounds <NUMBER>   measure so often; 5 unless told
  --only <TEXT>       only the rows with this text in their names; may be given several times. The rows are connect,
                      latency, in-flight, one-way, durable, bulk, urgent, posts-lost, posts-cpu, posts-p99, idle and
                      overhead
  --json <FILE>       write all that was measured there
  --write-readme      put the table into README.md
  --quick             measure shortly, in half a minute: to see that it works, not how fast

`cargo xtask bench browser` measures throughput, round trips and the time to connect, from page to page and from page to
node, of our transports and of js-libp2p's: the same work in the same browser against the same node, in turns. The
table tells the medians, the spread, and how many times as good ours is. Takes some three minutes on a quiet machine,
the first time a quarter of an hour more for compiling.

Options of `bench browser`:
  --json              print all that was measured instead of a table
  --rounds <NUMBER>   measure so often; 5 unless told
  --only <TEXT>       only the rows with this text in their names, such as webrtc-direct
";

const SETUP: &str = "\
Brings into place what the other commands need, and says what it finds:
  - Rust's standard library for wasm32-unknown-unknown, rustfmt and clippy, by rustup
  - wasm-bindgen and its test runner, in the version that Cargo.lock names, by cargo, into a cache
  - the npm packages, by npm ci; needs Node 20.19 or newer
  - Chromium and ChromeDriver, by apt-get where that is allowed; elsewhere it says what to install

Every other command does its part of this by itself, so this one is for those who want the waiting done in advance.
The cache is $XDG_CACHE_HOME/cpc-net, ~/.cache/cpc-net, or what is usual on the system.

Environment:
  CPC_CHROMIUM       the browser to use
  CPC_FIREFOX        the Firefox to use
  CHROMEDRIVER       the ChromeDriver to use; of the same version as the browser
  CARGO_TARGET_DIR   where cargo builds, as everywhere
";

/// Understands the arguments, or says what is wrong with them.
pub fn parse(arguments: impl IntoIterator<Item = String>) -> Result<Command, String> {
    let arguments: Vec<String> = arguments.into_iter().collect();
    let Some(name) = arguments.first() else { return Ok(Command::Help(overview())) };
    let rest = &arguments[1..];
    if ["help", "--help", "-h"].contains(&name.as_str()) {
        return match rest {
            [] => Ok(Command::Help(overview())),
            [about, ..] => command_help(about).map(Command::Help).ok_or_else(|| unknown_command(about)),
        };
    }
    let Some(help) = command_help(name) else { return Err(unknown_command(name)) };
    if rest.iter().any(|argument| argument == "--help" || argument == "-h") {
        return Ok(Command::Help(help));
    }
    if name == "test" {
        return test_choice(rest).map(Command::Test);
    }
    if name == "bench" {
        return match rest.split_first() {
            Some((what, rest)) if what == "browser" => bench_browser(rest).map(Command::BenchBrowser),
            _ => Options::parse(rest).map(Command::Bench),
        };
    }
    if let Some(unexpected) = rest.first() {
        return Err(format!("`cargo xtask {name}` takes no `{unexpected}`; `cargo xtask {name} --help` tells more"));
    }
    match name.as_str() {
        "demo" => Ok(Command::Demo),
        "wasm" => Ok(Command::Wasm),
        "types" => Ok(Command::Types),
        "lint" => Ok(Command::Lint),
        "coverage" => Ok(Command::Coverage),
        "setup" => Ok(Command::Setup),
        _ => Err(unknown_command(name)),
    }
}

fn test_choice(arguments: &[String]) -> Result<Choice, String> {
    let mut choice = Choice::default();
    let mut arguments = arguments.iter().map(String::as_str);
    while let Some(argument) = arguments.next() {
        match argument {
            "--list" => choice.list = true,
            "--keep-going" => choice.keep_going = true,
            "--only" => choice.only.push(step(arguments.next().unwrap_or_default())?),
            _ => match argument.strip_prefix("--only=") {
                Some(name) => choice.only.push(step(name)?),
                None => {
                    return Err(format!(
                        "`cargo xtask test` takes no `{argument}`; `cargo xtask test --help` tells more"
                    ));
                }
            },
        }
    }
    choice.only.sort_unstable();
    choice.only.dedup();
    Ok(choice)
}

/// What the bench in the browser is told.
fn bench_browser(arguments: &[String]) -> Result<Vec<String>, String> {
    let mut told = Vec::new();
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        let value = match argument.as_str() {
            "--json" => None,
            "--rounds" => Some(
                arguments
                    .next()
                    .filter(|rounds| rounds.parse::<u32>().is_ok_and(|rounds| rounds > 0))
                    .ok_or("`--rounds` wants a number from 1 up")?,
            ),
            "--only" => Some(arguments.next().ok_or("`--only` wants a part of a row's name")?),
            _ => {
                return Err(format!(
                    "`cargo xtask bench browser` takes no `{argument}`; `cargo xtask bench --help` tells more"
                ));
            }
        };
        told.push(argument.clone());
        told.extend(value.cloned());
    }
    Ok(told)
}

fn step(name: &str) -> Result<usize, String> {
    steps::find(name).ok_or_else(|| {
        let names: Vec<_> = steps::STEPS.iter().map(|step| step.name).collect();
        format!("there is no step `{name}`; the steps are {}", names.join(", "))
    })
}

fn unknown_command(name: &str) -> String {
    format!("there is no command `{name}`\n\n{}", overview())
}

fn overview() -> String {
    let commands: Vec<_> = COMMANDS.iter().map(|(name, about, _)| format!("  {name:<9} {about}\n")).collect();
    format!(
        "Builds, tests and shows cpc-net. Tools that are missing are set up on the way.\n\n\
         Usage: cargo xtask <COMMAND>\n\n\
         To see it at work:   cargo xtask demo\n\
         To check a change:   cargo xtask test\n\n\
         Commands:\n{}\n\
         `cargo xtask <COMMAND> --help` tells more of one of them.\n",
        commands.concat(),
    )
}

fn command_help(wanted: &str) -> Option<String> {
    let (name, _, text) = COMMANDS.iter().find(|(name, ..)| *name == wanted)?;
    let options = match *name {
        "test" => " [OPTIONS]",
        "bench" => " [browser] [OPTIONS]",
        _ => "",
    };
    let steps = if *name == "test" { format!("\nSteps:\n{}", steps::list()) } else { String::new() };
    Some(format!("Usage: cargo xtask {name}{options}\n\n{text}{steps}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Command, String> {
        parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn every_command_is_understood_and_has_help() {
        for (name, about, _) in COMMANDS {
            assert!(!matches!(parsed(name), Ok(Command::Help(_)) | Err(_)), "{name}");
            for line in [format!("{name} --help"), format!("{name} -h"), format!("help {name}")] {
                let Ok(Command::Help(text)) = parsed(&line) else { panic!("no help for {line}") };
                assert!(text.starts_with(&format!("Usage: cargo xtask {name}")), "{text}");
            }
            assert!(overview().contains(about));
        }
        for line in ["", "help", "--help", "-h"] {
            assert_eq!(parsed(line), Ok(Command::Help(overview())), "{line:?}");
        }
    }

    #[test]
    fn steps_are_chosen_by_name_or_number() {
        let only = |line: &str| match parsed(line) {
            Ok(Command::Test(choice)) => choice.only,
            other => panic!("{line}: {other:?}"),
        };
        assert_eq!(only("test"), Vec::<usize>::new());
        assert_eq!(only("test --only lint"), [1]);
        assert_eq!(only("test --only=9 --only 2 --only lint"), [1, 8]);
        let all = Choice { only: vec![], list: true, keep_going: true };
        assert_eq!(parsed("test --list --keep-going"), Ok(Command::Test(all)));
    }

    #[test]
    fn the_bench_is_told_what_it_understands() {
        assert_eq!(parsed("bench"), Ok(Command::Bench(Options::default())));
        let options = Options { rounds: 9, only: vec!["latency".into()], ..Options::default() };
        assert_eq!(parsed("bench --rounds 9 --only latency"), Ok(Command::Bench(options)));
        assert_eq!(parsed("bench browser"), Ok(Command::BenchBrowser(Vec::new())));
        let told = ["--json", "--rounds", "9", "--only", "webrtc"].map(str::to_owned).to_vec();
        assert_eq!(parsed("bench browser --json --rounds 9 --only webrtc"), Ok(Command::BenchBrowser(told)));
    }

    #[test]
    fn the_help_names_every_row_of_the_bench() {
        for key in crate::bench::rows() {
            assert!(BENCH.contains(key), "{key}");
        }
    }

    #[test]
    fn nonsense_is_answered_with_what_is_possible() {
        for (line, answer) in [
            ("dance", "Commands:"),
            ("help dance", "Commands:"),
            ("demo --fast", "takes no `--fast`"),
            ("test --fast", "takes no `--fast`"),
            ("bench pages", "takes no `pages`"),
            ("bench --rounds none", "a number from 1 up"),
            ("bench browser --fast", "takes no `--fast`"),
            ("bench browser --rounds 0", "a number from 1 up"),
            ("bench browser --only", "a part of a row"),
            ("test --only dance", "the steps are setup, lint"),
            ("test --only 0", "the steps are"),
            ("test --only", "the steps are"),
        ] {
            let problem = parsed(line).expect_err(line);
            assert!(problem.contains(answer), "{line}: {problem}");
        }
    }
}
