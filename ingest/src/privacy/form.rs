//! Taking a person out of what a form says: `user_id=U024&user_name=ada&text=done+SHOP-12`. Fields without them keep
//! their bytes.

use super::{
    class::{Class, class},
    json::Redaction,
    rules::Rules,
    text::{Ground, Written},
};

/// Whether a body that is no JSON is a form.
pub fn is_form(body: &str) -> bool {
    let name = body.split('&').next().and_then(|field| field.split_once('=')).map_or("", |(name, _)| name);
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"_-.%[]".contains(&b);
    !name.is_empty() && name.bytes().all(plain) && body.bytes().all(|b| b.is_ascii_graphic())
}

/// The form without the person, or `None` where they are not in it.
pub fn redacted(rules: &Rules, source: &str, body: &str) -> Option<String> {
    let is_theirs = |field: &str| {
        let (name, value) = decoded(field)?;
        (name == "user_id").then(|| rules.login(&value, Some(source)).is_some())
    };
    let theirs = body.split('&').any(|field| is_theirs(field) == Some(true));
    let mut changed = false;
    let fields: Vec<String> = body
        .split('&')
        .map(|field| match redacted_field(rules, source, field, theirs) {
            Some(new) => {
                changed = true;
                new
            }
            None => field.to_owned(),
        })
        .collect();
    changed.then(|| fields.join("&"))
}

/// Name and value; `None` where they are no UTF-8.
fn decoded(field: &str) -> Option<(String, String)> {
    let (name, value) = form_urlencoded::parse(field.as_bytes()).next()?;
    let whole = !name.contains(char::REPLACEMENT_CHARACTER) && !value.contains(char::REPLACEMENT_CHARACTER);
    whole.then(|| (name.into_owned(), value.into_owned()))
}

fn redacted_field(rules: &Rules, source: &str, field: &str, theirs: bool) -> Option<String> {
    let (name, _) = field.split_once('=')?;
    let Some((key, value)) = decoded(field) else {
        let new = rules.rewrite(field.as_bytes(), Written::Anyhow, Ground::Free)?;
        return Some(String::from_utf8_lossy(&new).into_owned());
    };
    let login = || rules.login(&value, Some(source)).map(str::to_owned);
    let new = match key.as_str() {
        "user_name" if theirs && !rules.token.opens(&value) => {
            Some(login().unwrap_or_else(|| rules.token.name(&value)))
        }
        "user_name" if rules.is_free_login(&value) || rules.is_full_name(&value) => {
            login().or_else(|| Some(rules.token.name(&value)))
        }
        "user_name" => rules.email(&value),
        _ if value.starts_with(['{', '[']) => match Redaction::of(rules, source, &value) {
            Ok(new) => new,
            Err(_) => rules.rewrite_text(&value),
        },
        key => match class(key, Class::Text) {
            Class::Reference | Class::Login | Class::Email => {
                let ground = if value.contains(char::is_whitespace) { Ground::Free } else { Ground::Account };
                let within = || rules.rewrite(value.as_bytes(), Written::Plain, ground);
                let within = || within().map(|new| String::from_utf8_lossy(&new).into_owned());
                rules.email(&value).or_else(login).or_else(within)
            }
            Class::Vocabulary => None,
            _ => rules.rewrite_text(&value),
        },
    };
    let new = new.filter(|new| *new != value)?;
    Some(format!("{name}={}", form_urlencoded::byte_serialize(new.as_bytes()).collect::<String>()))
}
