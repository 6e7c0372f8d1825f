//! Lines between this process and the one that started it: JSON out, words in.

use std::io::{self, BufRead as _, Write as _};

use serde_json::{Value, json};

use crate::{Failure, memory};

/// Tells one thing.
pub fn tell(value: &Value) -> io::Result<()> {
    let mut output = io::stdout().lock();
    writeln!(output, "{value}")?;
    output.flush()
}

/// Answers what is asked on standard input until that ends. It runs on a thread of its own, as reading from there blocks.
pub async fn serve_until_told() -> Result<(), Failure> {
    Ok(tokio::task::spawn_blocking(|| {
        for line in io::stdin().lock().lines() {
            match line?.as_str() {
                "memory" => tell(&json!({ "memory": memory::of_this_process() }))?,
                unknown => tell(&json!({ "unknown": unknown }))?,
            }
        }
        io::Result::Ok(())
    })
    .await??)
}
