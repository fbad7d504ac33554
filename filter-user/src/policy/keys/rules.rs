//! Keys of rules of all kinds, and of what stands in them.

use super::Kind::{Scalars, Table, Tables, Text, Texts, Time, Whole};
use super::{Key, key};
use crate::policy::model::MAX_RATE;

/// Keys of `[[profiles.NAME.allow]]`, `[[profiles.NAME.deny]]` and `[[profiles.NAME.send]]`.
pub(in crate::policy) const RULE_KEYS: &[Key] = &[
    key(
        "id",
        Text,
        "id = \"https\"",
        "Names the rule in counters; unique in the whole policy.",
    )
    .required(),
    key(
        "comment",
        Text,
        "comment = \"public web\"",
        "For people; one line.",
    ),
    key(
        "protocol",
        Scalars,
        "protocol = \"tcp\"",
        "IP protocol by name or number, or several; a deny rule without it covers every protocol.",
    ),
    key(
        "ports",
        Scalars,
        "ports = [443, \"8000-8100\"]",
        "Destination ports and ranges, with tcp, udp and sctp.",
    ),
    key(
        "from",
        Texts,
        "from = [\"192.0.2.0/24\", \"@admins\"]",
        "Source addresses: CIDRs, \"@group\", or \"any\".",
    ),
    key(
        "to",
        Texts,
        "to = \"self\"",
        "Destination: \"self\", \"forwarded\", \"any\", or CIDRs and \"@group\".",
    ),
    key(
        "rate",
        Table(RATE_KEYS),
        "rate = { packets = 1000, burst = 2000 }",
        "Packets a second of all sources together.",
    ),
    key(
        "rate_per_source",
        Table(RATE_KEYS),
        "rate_per_source = { packets = 10, burst = 20 }",
        "Packets a second of each source address.",
    ),
    key(
        "valid_from",
        Time,
        "valid_from = \"2026-12-24\"",
        "First day or time at which the rule counts.",
    ),
    key(
        "valid_until",
        Time,
        "valid_until = \"2026-12-31T18:00:00+01:00\"",
        "Last day, or the time from which the rule counts no more.",
    ),
    key(
        "windows",
        Tables(WINDOW_KEYS),
        "windows = [{ days = \"weekdays\", from = \"09:00\", to = \"18:00\" }]",
        "Hours of the week in which the rule counts.",
    ),
    key(
        "zone",
        Text,
        "zone = \"Europe/Berlin\"",
        "Time zone of the times of this rule.",
    ),
];
/// Keys of `[[failsafe]]`.
pub(in crate::policy) const FAILSAFE_KEYS: &[Key] = &[
    key(
        "id",
        Text,
        "id = \"admins\"",
        "Names the rule in counters; unique in the whole policy.",
    )
    .required(),
    key(
        "comment",
        Text,
        "comment = \"never locked out\"",
        "For people; one line.",
    ),
    key(
        "from",
        Texts,
        "from = [\"@admins\"]",
        "Who always gets in: CIDRs and \"@group\".",
    )
    .required(),
    key(
        "protocol",
        Scalars,
        "protocol = \"tcp\"",
        "IP protocol by name or number, or several; every protocol if left out.",
    ),
    key(
        "ports",
        Scalars,
        "ports = [22]",
        "Destination ports and ranges, with tcp, udp and sctp.",
    ),
];
/// Keys of `rate` and `rate_per_source`.
pub(in crate::policy) const RATE_KEYS: &[Key] = &[
    key(
        "packets",
        Whole(1, MAX_RATE as i64),
        "packets = 1000",
        "Packets a second.",
    )
    .required(),
    key(
        "burst",
        Whole(1, MAX_RATE as i64),
        "burst = 2000",
        "Packets that may come at once; as many as a second if left out.",
    ),
];
/// Keys of each window of `windows`.
pub(in crate::policy) const WINDOW_KEYS: &[Key] = &[
    key(
        "days",
        Texts,
        "days = [\"mon-fri\"]",
        "Days and ranges of days, \"weekdays\" or \"weekends\"; every day if left out.",
    ),
    key("from", Text, "from = \"09:00\"", "First minute."),
    key(
        "to",
        Text,
        "to = \"18:00\"",
        "The minute at which it ends; before `from`: on the next day.",
    ),
];
