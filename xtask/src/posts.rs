//! What the node hears, as lines for people.

use serde_json::Value;

/// The longest text that is shown whole.
const LONGEST: usize = 400;

/// One line for a message that the node has received; nothing for other events.
pub fn line(event: &Value) -> Option<String> {
    if event["event"] != "message" {
        return None;
    }
    let message = &event["message"];
    let sender = message["sender"].as_str()?;
    let whom = match &message["delivery"] {
        Value::String(delivery) if delivery == "direct" => " to this node".to_owned(),
        Value::String(delivery) if delivery == "neighbors" => " to its neighbours".to_owned(),
        Value::Object(delivery) => match delivery.get("group").and_then(Value::as_str) {
            Some(group) => format!(" to the group {group}"),
            None => String::new(),
        },
        _ => String::new(),
    };
    Some(format!("  {}{whom}: {}", short(sender), content(message)))
}

fn content(message: &Value) -> String {
    let Some(payload) = message["payload"].as_str() else {
        let encoded = message["payloadBase64"].as_str().map_or(0, str::len);
        return format!("({} bytes that are no text)", encoded / 4 * 3);
    };
    // The page wraps its texts in JSON, with the name that the person has chosen. Other apps do as they like.
    let wrapped = serde_json::from_str::<Value>(payload).unwrap_or_default();
    let name = wrapped["name"].as_str().filter(|name| !name.is_empty());
    match (wrapped["type"].as_str(), wrapped["text"].as_str(), name) {
        (_, Some(text), Some(name)) => format!("{}: {}", harmless(name), harmless(text)),
        (_, Some(text), None) => harmless(text),
        (Some("hello"), None, Some(name)) => format!("(goes by the name of {})", harmless(name)),
        (Some("hello"), None, None) => "(is here, without a name)".to_owned(),
        _ => harmless(payload),
    }
}

/// What strangers send must not steer the terminal: one line of bounded length.
fn harmless(text: &str) -> String {
    // Some characters turn the direction of writing, so that a line reads as something else than it says.
    let turns = |sign: char| matches!(sign, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let plain = |sign: char| {
        if sign.is_control() || turns(sign) || matches!(sign, '\u{2028}' | '\u{2029}') { ' ' } else { sign }
    };
    let mut shown: String = text.chars().take(LONGEST).map(plain).collect();
    if text.chars().nth(LONGEST).is_some() {
        shown.push('…');
    }
    shown
}

/// The end of a peer id: the beginning is the same for all.
fn short(peer: &str) -> String {
    let skipped = peer.chars().count().saturating_sub(8);
    format!("…{}", peer.chars().skip(skipped).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn shown(delivery: Value, payload: &str) -> Option<String> {
        line(&json!({"event": "message", "message":
            {"sender": "12D3KooWabcdefgh", "delivery": delivery, "payload": payload}}))
    }

    #[test]
    fn posts_become_lines() {
        assert_eq!(shown(json!("all"), "hello").as_deref(), Some("  …abcdefgh: hello"));
        assert_eq!(shown(json!("direct"), r#"{"text":"hi"}"#).as_deref(), Some("  …abcdefgh to this node: hi"));
        let group = shown(json!({"group": "books"}), "x");
        assert_eq!(group.as_deref(), Some("  …abcdefgh to the group books: x"));
        let named = r#"{"app":"cpc-demo","type":"post","text":"hi","name":"Ada","at":1}"#;
        assert_eq!(shown(json!("all"), named).as_deref(), Some("  …abcdefgh: Ada: hi"));
        let hello = r#"{"app":"cpc-demo","type":"hello","name":"Ada"}"#;
        assert_eq!(shown(json!("all"), hello).as_deref(), Some("  …abcdefgh: (goes by the name of Ada)"));
        assert_eq!(shown(json!("all"), r#"{"a":1}"#).as_deref(), Some(r#"  …abcdefgh: {"a":1}"#));
        assert_eq!(line(&json!({"event": "network", "network": {}})), None);
    }

    #[test]
    fn nothing_that_is_received_steers_the_terminal() {
        assert_eq!(shown(json!("all"), "a\x1b[31m\nb").as_deref(), Some("  …abcdefgh: a [31m b"));
        assert_eq!(shown(json!("all"), "a\u{202e}b").as_deref(), Some("  …abcdefgh: a b"));
        let long = shown(json!("all"), &"x".repeat(10_000)).expect("a line");
        assert!(long.len() < 500 && long.ends_with('…'));
        let binary =
            json!({"event": "message", "message": {"sender": "abc", "delivery": "all", "payloadBase64": "AAAA"}});
        assert_eq!(line(&binary).as_deref(), Some("  …abc: (3 bytes that are no text)"));
    }
}
