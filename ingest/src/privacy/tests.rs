//! What is replaced and what is not, by example.

#![allow(clippy::unwrap_used)]

use flowsync_schemas::{Channel, Micros, NameClaim, PersonId, Pseudonymizer, Signal, SignalId, id::Account};

use super::{Claimed, Salt, Subject, Token};

const T: &str = "erased-1a2b3c4d5e";

pub(super) fn claim(name: &str, account: &str) -> NameClaim {
    let people = Pseudonymizer::new(&[7; 32]);
    let person = match account.split_once(':') {
        Some((source, login)) => people.person(&Account::Login { source, login }),
        None => people.person(&Account::Email(account)),
    };
    NameClaim { person, name: name.into(), account: account.into() }
}

pub(super) fn of(claims: &[(&str, &str)], more: &[&str]) -> Subject {
    let claims: Vec<_> = claims.iter().map(|(name, account)| claim(name, account)).collect();
    let more: Vec<_> = more.iter().map(|text| (*text).to_owned()).collect();
    Subject::new(&claims, &more, T.parse().unwrap(), Salt::random().unwrap())
}

fn ada() -> Subject {
    of(
        &[
            ("Zoë Lovelace", "ada@example.org"),
            ("", "github:ada-l"),
            ("Zoë Lovelace", "jira:557058:f5-81"),
            ("zoe", "slack:U024BE7LH"),
        ],
        &[],
    )
}

/// Somebody with a login that could be any word.
fn main() -> Subject {
    of(&[("main", "github:main"), ("Grace Main", "grace@example.org")], &[])
}

pub(super) fn signal(source: &str, body: impl Into<Vec<u8>>) -> Signal {
    Signal {
        id: SignalId(7),
        source: source.to_owned(),
        delivery: String::new(),
        occurred_at: Some(Micros(1)),
        received_at: Micros(2),
        channel: Channel::Webhook,
        verified_by: "hmac-sha256".to_owned(),
        headers: Vec::new(),
        body: body.into(),
    }
}

fn body(subject: &Subject, source: &str, text: &str) -> String {
    let signal = signal(source, text);
    let redacted = subject.redact(&signal).unwrap_or(signal);
    assert_eq!(subject.redact(&redacted), None, "{text}");
    // So that the tests can be read.
    String::from_utf8(redacted.body).unwrap().replace(T, "T").replace(&T.replace('-', " "), "N")
}

fn text(subject: &Subject, text: &str) -> String {
    let new = subject.redact_text(text).unwrap_or_else(|| text.to_owned());
    new.replace(T, "T").replace(&T.replace('-', " "), "N")
}

#[test]
fn free_text() {
    let ada = ada();
    for (before, after) in [
        ("Fix by Ada-L, see SHOP-1", "Fix by T+3, see SHOP-1"),
        ("Co-authored-by: ZOE  LOVELACE <Ada@Example.ORG>", "Co-authored-by: N <T@erased.invalid>"),
        ("Zoe\u{308} Lovelace, Lovelace, Zoë and Zoë\nLovelace", "N, N and N"),
        ("@ada-l @ada-l. @ada-l-2 @ada-l.x", "@T+3 @T+3. @ada-l-2 @ada-l.x"),
        (
            "github:ada-l jira:557058:f5-81 <@U024BE7LH|zoe>",
            "github:T+3 jira:T <@T+2|N>".replace("|N", "|zoe").as_str(),
        ),
        ("12+Ada-L@users.noreply.github.com", "0+T+3@users.noreply.github.com"),
        (
            "ada-l@private.org x.ada-l@y.org me@ada-l.dev ada@example.org.uk",
            "T+3@private.org x.ada-l@y.org me@T+3.dev ada@example.org.uk",
        ),
        (
            "_ada@example.org_ (ada@example.org) ada@example.org.",
            "_T@erased.invalid_ (T@erased.invalid) T@erased.invalid.",
        ),
        (
            "https://github.com/ada-l/shop/pull/1?q=Zo%C3%AB+Lovelace&m=ada%40example.org",
            "https://github.com/T+3/shop/pull/1?q=N&m=T%40erased.invalid",
        ),
        ("refs/heads/ada-l/SHOP-1-fix ada-l-SHOP-2", "refs/heads/T+3/SHOP-1-fix T+3-SHOP-2"),
        ("xada-l ada-lx Canada-l éada-l", "xada-l ada-lx Canada-l éada-l"),
        ("lovelace ada zoë", "lovelace ada zoë"),
        ("Lovelace, Zoe", "N"),
    ] {
        assert_eq!(text(&ada, before), after, "{before}");
    }
    assert_eq!(ada.redact_text("nobody"), None);
}

#[test]
fn words_that_could_mean_anything() {
    let main = main();
    for (before, after) in [
        ("merge main into fix, Main street", "merge main into fix, Main street"),
        ("refs/heads/main feature/main main/x", "refs/heads/main feature/main main/x"),
        ("@main github:main [~main] main/shop#12", "@T github:T [~T] T/shop#12"),
        ("@maintain @main-2", "@maintain @main-2"),
        ("Merge pull request #12 from main/fix", "Merge pull request #12 from T/fix"),
        (
            "https://github.com/main https://api.github.com/users/main/orgs",
            "https://github.com/T https://api.github.com/users/T/orgs",
        ),
        ("https://x.org/a/b/tree/main https://x.org/main", "https://x.org/a/b/tree/main https://x.org/main"),
        (
            "https://x.org/main/shop/pull/1 https://x.org/rest/user?username=main",
            "https://x.org/T/shop/pull/1 https://x.org/rest/user?username=T",
        ),
        (
            "git@github.com:main/shop.git 7+main@users.noreply.github.com",
            "git@github.com:T/shop.git 0+T@users.noreply.github.com",
        ),
        ("main@example.org", "main@example.org"),
    ] {
        assert_eq!(text(&main, before), after, "{before}");
    }
}

#[test]
fn objects_that_describe_the_person() {
    let user = r#"{"sender":{"login":"Main","id":7,"node_id":"x","avatar_url":"https://a/u/7","type":"User","site_admin":false},"ref":"main"}"#;
    let without = r#"{"sender":{"login":"T","id":0,"node_id":"T","avatar_url":"https://erased.invalid/T","type":"User","site_admin":false},"ref":"main"}"#;
    assert_eq!(body(&main(), "github", user), without);
    // In Jira it is somebody else's.
    assert_eq!(body(&main(), "jira", user), user);
    let jira = r#"{"user": {"self":"https://j/user?x=1","accountId":"557058:f5-81","emailAddress":"?","displayName":"Zo\u00eb","avatarUrls":{"16x16":"https:\/\/a"},"active":true,"timeZone":"Europe/Berlin"}}"#;
    let without = r#"{"user": {"self":"https://erased.invalid/T","accountId":"T","emailAddress":"T","displayName":"T","avatarUrls":{"16x16":"https://erased.invalid/T"},"active":true,"timeZone":"T"}}"#;
    assert_eq!(body(&ada(), "jira", jira), without);
    let slack =
        r#"{"users":{"U024BE7LH":{"name":"z","profile":{"phone":"1","fields":[{"a":"b"}]}},"U2":{"name":"z"}}}"#;
    let without = r#"{"users":{"T+2":{"name":"T","profile":{"phone":"T","fields":[{"a":"T"}]}},"U2":{"name":"z"}}}"#;
    assert_eq!(body(&ada(), "slack", slack), without);
}

#[test]
fn what_is_no_person_is_left() {
    for left in [
        r#"{"repository":{"name":"main","id":7,"url":"https://x"},"label":{"name":"main"},"name":"main"}"#,
        r#"{"status":{"name":"main","key":"main"},"state":"main","branch":"main"}"#,
        r#"{"author":{"name":"main","email":"other@example.org"}}"#,
        r#"{"items":[{"field":"status","from":"main","toString":"main"}]}"#,
        r#"{"key":{"login":"x"},"a":["main", 1e400, "\ud800"]}"#,
    ] {
        assert_eq!(body(&main(), "github", left), left);
    }
}

#[test]
fn who_does_what() {
    for (before, after) in [
        (r#"{"assignee":"main","assignees":["x","main"]}"#, r#"{"assignee":"T","assignees":["x","T"]}"#),
        (r#"{"reporter":"github:main"}"#, r#"{"reporter":"github:T"}"#),
        (
            r#"{"items":[{"fromString":"Grace Main","from":"main","field":"assignee"}]}"#,
            r#"{"items":[{"fromString":"N","from":"T","field":"assignee"}]}"#,
        ),
        (
            r#"{"full_name":"main/shop","label":"main:fix","ref":"main/fix"}"#,
            r#"{"full_name":"T/shop","label":"T:fix","ref":"main/fix"}"#,
        ),
        (r#"{"pusher":{"name":"main","email":"x@y.org"}}"#, r#"{"pusher":{"name":"T","email":"x@y.org"}}"#),
        (r#"{"title":"by \u0047race Main \/ @main"}"#, r#"{"title":"by N \/ @T"}"#),
        (r#"{"x":"{\"a\":\"\\nGrace Main\\n\"}"}"#, r#"{"x":"{\"a\":\"\\nN\\n\"}"}"#),
    ] {
        assert_eq!(body(&main(), "github", before), after, "{before}");
    }
}

#[test]
fn a_namesake_keeps_the_account() {
    let namesake = r#"{"author":{"name":"Zoë Lovelace","email":"z@other.org","username":"zl"}}"#;
    let without = r#"{"author":{"name":"N","email":"z@other.org","username":"zl"}}"#;
    assert_eq!(body(&ada(), "github", namesake), without);
    // Without an account it can only be her.
    let alone = r#"{"author":{"displayName":"Zoë Lovelace","accountId":"","timezone":"x","url":"https://x"}}"#;
    assert!(body(&ada(), "jira", alone).contains("https://erased.invalid/T"));
    assert_eq!(ada().claims(&claim("Zoe Lovelace", "z@other.org")), Some(Claimed::ByName));
    assert_eq!(ada().claims(&claim("x", "github:ADA-L")), Some(Claimed::ByAccount));
    assert_eq!(ada().claims(&claim("x", "5+ada-l@users.noreply.github.com")), Some(Claimed::ByAccount));
    assert_eq!(ada().claims(&claim("zoe", "github:zoe")), None);
    assert_eq!(main().claims(&claim("x", "jira:main")), None);
}

#[test]
fn forms() {
    let ada = ada();
    let form = "token=x&user_id=U024BE7LH&user_name=zoe&command=%2Fflowsync&text=same+%3C%40U024BE7LH%7Czoe%3E+github%3Aada-l&x=%zz";
    let without =
        "token=x&user_id=T%2B2&user_name=T&command=%2Fflowsync&text=same+%3C%40T%2B2%7Czoe%3E+github%3AT%2B3&x=%zz";
    assert_eq!(body(&ada, "slack", form), without);
    let other = "user_id=U1&user_name=zoe&text=done+SHOP-1+%ff";
    assert_eq!(body(&ada, "slack", other), other);
    let json = "payload=%7B%22login%22%3A%22ada-l%22%7D&x=ada-l";
    assert_eq!(body(&ada, "github", json), "payload=%7B%22login%22%3A%22T%2B3%22%7D&x=T%2B3");
}

#[test]
fn what_cannot_be_read() {
    let main = main();
    assert_eq!(body(&main, "jira", "<html>Grace\\u0020Main and MAIN</html>"), "<html>N and T</html>");
    assert_eq!(body(&main, "github", "{\"login\":\"main\",\"na"), "{\"login\":\"T\",\"na");
    let broken = signal("github", b"{\"a\":\"\xff Grace Main\xfe".to_vec());
    assert_eq!(main.redact(&broken).unwrap().body, b"{\"a\":\"\xff erased 1a2b3c4d5e\xfe");
}

#[test]
fn headers_and_delivery() {
    let mut with = signal("jira", "[]");
    with.headers = vec![
        (
            "x-flowsync-request".to_owned(),
            "https://j/rest/api/2/issue/SHOP-1/remotelink?by=ada%40example.org".to_owned(),
        ),
        ("x-github-event".to_owned(), "ada-l".to_owned()),
    ];
    with.delivery = "https://j/ada-l 0123".to_owned();
    let without = ada().redact(&with).unwrap();
    assert_eq!(without.headers[0].1, format!("https://j/rest/api/2/issue/SHOP-1/remotelink?by={T}%40erased.invalid"));
    assert_eq!(without.headers[1], with.headers[1]);
    assert_eq!(without.delivery, format!("https://j/{T}+3 0123"));
    assert_eq!((without.id, &without.body), (with.id, &with.body));
    assert!(ada().is_in(&with) && !main().is_in(&with));
}

#[test]
fn keys_of_tickets_survive_a_login_that_is_spelled_like_one() {
    let subject = of(&[("", "github:shop99")], &[]);
    assert_eq!(text(&subject, "SHOP99-12 shop99 SHOP99-x by shop99-1"), "SHOP99-12 T T-x by T-1");
    let machine = of(&[("helper[bot]", "github:helper[bot]")], &[]);
    assert_eq!(body(&machine, "github", r#"{"login":"helper[bot]"}"#), r#"{"login":"T[bot]"}"#);
}

#[test]
fn accounts_stay_apart_and_one_persons() {
    let subject = of(
        &[
            ("", "b@x.org"),
            ("", "a@x.org"),
            ("", "9+z-z@users.noreply.github.com"),
            ("", "github:Q-1"),
            ("", "github:q-1"),
            ("Ada King", "git:Ada King"),
        ],
        &["note-taker", "Countess of Lovelace"],
    );
    let people = Pseudonymizer::new(&[7; 32]);
    let pairs = subject.pseudonyms(&people);
    let new: std::collections::BTreeSet<PersonId> = pairs.iter().map(|(_, new)| *new).collect();
    // A name that nobody has as an account is taken for another name of the same one.
    assert_eq!(new.len(), pairs.len() - 1, "no two accounts become one");
    // Addresses, short logins, the login in an address, what is nobody else's in five tools, and a name in git.
    assert_eq!(pairs.len(), 3 + 2 + 1 + 2 * 5 + 1);
    let again: Subject = serde_json::from_str(&serde_json::to_string(&subject).unwrap()).unwrap();
    assert_eq!((again.pseudonyms(&people), again.identifiers()), (pairs, subject.identifiers()));
    assert_eq!(again.token(), &T.parse::<Token>().unwrap());
    assert_eq!(
        text(&again, "a@x.org b@x.org Q-1 q-1 countess  of lovelace"),
        "T@erased.invalid T+2@erased.invalid T+2 T+5 T".replace("T+2 T+5 T", "Q-1 q-1 N")
    );
    assert!(!format!("{subject:?}").contains("x.org"));
    let noreply = text(&again, "9+z-z@users.noreply.github.com");
    assert!(noreply.starts_with("1+T+") && noreply.ends_with("@users.noreply.github.com"), "{noreply}");
}

#[test]
fn names_without_spaces() {
    let subject = of(&[("李小龙", "jira:1"), ("王伟", "jira:2")], &[]);
    assert_eq!(text(&subject, "由李小龙修复, 王伟人"), "由T修复, 王伟人");
}
