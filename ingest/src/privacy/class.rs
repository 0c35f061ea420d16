//! What the fields of tools hold, by their keys.

use std::{collections::HashMap, sync::LazyLock};

/// What a value is, by the key that it stands under.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Anything else: text.
    Text,
    Email,
    /// An account of the person whom the object describes.
    Login,
    /// The id of the account of the person whom the object describes: whatever else it says of accounts is older.
    Account,
    /// A name of the person whom the object describes.
    Display,
    /// A name: of a person, a server's account, or any other thing.
    Name,
    /// A key: of a server's account, or any other thing.
    Key,
    /// A native id, of a person or any other thing.
    Id,
    /// Says something of a person, where it stands in an object that describes one.
    Personal,
    /// Holds nothing but what is personal, where it stands in such an object.
    Wrapper,
    /// Says that the object describes a person.
    Marker,
    /// The same, by where they are.
    Zone,
    /// Names a person who is something to the object: its author, its assignee.
    Reference,
    /// Who pushed: its name is a login.
    Pusher,
    /// Names a repository, or something within one: the owner comes first.
    Repository,
    /// GitHub's `owner:branch`.
    Label,
    /// A word of the tool's own, such as a state. Nobody's name.
    Vocabulary,
    /// Names something that an administrator of the tool made up: a status, a priority.
    Made,
    /// The field that an entry of a changelog is about.
    Field,
    /// What the field was and is.
    Change,
}

/// The keys of each class, as tools write them.
const KEYS: &[(Class, &[&str])] = &[
    (Class::Email, &["email", "emailAddress", "email_address", "mail", "user_email", "userEmail"]),
    (Class::Login, &["login", "username"]),
    (Class::Account, &["accountId", "account_id"]),
    (
        Class::Display,
        &["displayName", "display_name", "real_name", "realName", "fullName", "real_name_normalized", "nickname"],
    ),
    (Class::Name, &["name"]),
    (Class::Key, &["key"]),
    (Class::Id, &["id"]),
    (
        Class::Personal,
        &[
            "self",
            "url",
            "html_url",
            "web_url",
            "node_id",
            "avatar",
            "avatarUrl",
            "avatar_hash",
            "gravatar_id",
            "gravatarId",
            "locale",
            "language",
            "phone",
            "phoneNumber",
            "mobile",
            "skype",
            "company",
            "blog",
            "location",
            "bio",
            "twitter_username",
            "first_name",
            "last_name",
            "firstName",
            "lastName",
            "given_name",
            "family_name",
            "givenName",
            "familyName",
            "initials",
            "status_text",
            "tz_label",
            "tz_offset",
            "tz",
            "jobTitle",
            "department",
            "birthday",
            "display_name_normalized",
            "uuid",
            "public_email",
        ],
    ),
    (Class::Wrapper, &["avatarUrls", "avatar_urls", "avatars", "profile", "_links", "links"]),
    (Class::Marker, &["accountType", "account_type", "site_admin"]),
    (Class::Zone, &["timeZone", "timezone", "time_zone"]),
    (
        Class::Reference,
        &[
            "user",
            "users",
            "user_id",
            "userId",
            "user_name",
            "userName",
            "userKey",
            "author",
            "authors",
            "assignee",
            "assignees",
            "reporter",
            "creator",
            "owner",
            "owners",
            "sender",
            "actor",
            "requester",
            "accounts",
            "members",
            "participants",
            "watchers",
            "reviewer",
            "reviewers",
            "merged_by",
            "closed_by",
            "created_by",
            "createdBy",
            "updated_by",
            "updatedBy",
            "committer",
            "lead",
            "authorAccountId",
            "leadAccountId",
            "authorKey",
        ],
    ),
    (
        Class::Repository,
        &["full_name", "repo", "repository", "ticket", "artifact", "project", "projects", "nameWithOwner"],
    ),
    (Class::Pusher, &["pusher"]),
    (Class::Label, &["label"]),
    (
        Class::Vocabulary,
        &[
            "action",
            "state",
            "conclusion",
            "type",
            "event",
            "webhookEvent",
            "verb",
            "ref_type",
            "fieldtype",
            "issue_event_type_name",
            "object_kind",
            "visibility",
            "pusher_type",
            "user_view_type",
            "command",
            "author_association",
            "state_reason",
            "sha",
            "before",
            "after",
            "head_sha",
            "currency",
        ],
    ),
    (Class::Made, &["status", "issuetype", "priority", "resolution", "statusCategory", "issueLinkType"]),
    (Class::Field, &["field", "fieldId"]),
    (Class::Change, &["from", "to", "fromString", "toString"]),
];

/// The class of what stands under a key, within something of a class.
pub fn class(key: &str, within: Class) -> Class {
    if within == Class::Made {
        return Class::Made;
    }
    static BY_KEY: LazyLock<HashMap<&str, Class>> =
        LazyLock::new(|| KEYS.iter().flat_map(|(class, keys)| keys.iter().map(|key| (*key, *class))).collect());
    BY_KEY.get(key).copied().unwrap_or_else(|| {
        let personal = key.ends_with("_url") || key.starts_with("image_");
        if personal { Class::Personal } else { Class::Text }
    })
}

/// Fields of a changelog that hold a person.
pub fn is_of_people(field: &str) -> bool {
    ["assignee", "reporter", "creator", "owner", "lead", "reviewer", "approver", "watcher"]
        .iter()
        .any(|known| field.eq_ignore_ascii_case(known))
}
