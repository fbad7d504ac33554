//! The table as documents for `nft`, and as `nft` shows it.
//!
//! Owns the names and rules. Must never drop what may be a reply to a connection of this host, or of one behind it:
//!
//! - TCP is told by its flags: only a segment without ACK and RST cannot be a reply (RFC 9293, 3.10.7). That needs no
//!   connection tracking, and stands at raw priority, before anything else is done with the packet.
//! - Echo and other requests of ICMP likewise.
//! - All else (UDP, SCTP, ICMP errors ...) is dropped where connection tracking calls it new, after it (priority mangle).
//!   Neighbour discovery and whatever else is not tracked passes: a blocked neighbour may still be asked for its address.
//!
//! So a blocked source can begin nothing; what went on with it before goes on. Loopback is left alone.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use nftables::batch::Batch;
use nftables::expr::{
    BinaryOperation, CT, Elem, Expression, Meta, MetaKey, NamedExpression, Payload, PayloadField,
    SetItem,
};
use nftables::schema::{
    Chain, Element, NfListObject, Nftables, Rule, Set, SetFlag, SetType, SetTypeValue, Table,
};
use nftables::stmt::{Counter, JumpTarget, Match, Operator, Statement};
use nftables::types::{NfChainPolicy, NfChainType, NfFamily, NfHook};
use serde_json::Value;

use crate::policy;

/// Our table, of family `inet`.
pub(super) const TABLE: &str = "edgefilter";

/// Before connection tracking.
const RAW: i32 = -300;
/// After it.
const MANGLE: i32 = -150;

/// What a blocked source cannot be answering with.
const REQUESTS: &str = "requests";
/// What begins something, as connection tracking has it.
const BEGINNINGS: &str = "beginnings";

/// A set. Hashes only: intervals that overlap (an address, and the /64 around it) cannot be in one set together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Place {
    Blocked4,
    Blocked6,
    /// /64 prefixes, by their first address.
    Blocked6Prefixes,
}

impl Place {
    const ALL: [Self; 3] = [Self::Blocked4, Self::Blocked6, Self::Blocked6Prefixes];

    pub fn of(source: IpNet) -> Option<Self> {
        match (source, source.prefix_len()) {
            (IpNet::V4(_), 32) => Some(Self::Blocked4),
            (IpNet::V6(_), 128) => Some(Self::Blocked6),
            (IpNet::V6(_), 64) => Some(Self::Blocked6Prefixes),
            _ => None,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Blocked4 => "blocked4",
            Self::Blocked6 => "blocked6",
            Self::Blocked6Prefixes => "blocked6_64",
        }
    }

    fn set_type(self) -> SetType {
        match self {
            Self::Blocked4 => SetType::Ipv4Addr,
            Self::Blocked6 | Self::Blocked6Prefixes => SetType::Ipv6Addr,
        }
    }

    /// What of a packet is looked up.
    fn key(self) -> Expression<'static> {
        match self {
            Self::Blocked4 => payload("ip", "saddr"),
            Self::Blocked6 => payload("ip6", "saddr"),
            Self::Blocked6Prefixes => {
                masked(payload("ip6", "saddr"), word("ffff:ffff:ffff:ffff::"))
            }
        }
    }

    fn source(self, address: IpAddr) -> Option<IpNet> {
        let length = match self {
            Self::Blocked4 => 32,
            Self::Blocked6 => 128,
            Self::Blocked6Prefixes => 64,
        };
        IpNet::new(address, length).ok()
    }
}

/// What becomes of one source.
#[derive(Clone, Copy, Debug)]
pub(super) struct Change {
    pub source: IpNet,
    /// The set may hold it.
    pub held: bool,
    /// How long it stays; `None`: it goes.
    pub left: Option<Duration>,
}

/// One transaction that replaces whatever table of our name there is.
pub(super) fn made(
    settings: policy::Nftables,
    blocks: impl Iterator<Item = (IpNet, Duration)>,
) -> Nftables<'static> {
    let mut batch = Batch::new();
    batch.add(table());
    batch.delete(table());
    batch.add(table());
    for place in Place::ALL {
        batch.add(NfListObject::Set(Box::new(Set {
            family: NfFamily::INet,
            table: TABLE.into(),
            name: place.name().into(),
            set_type: SetTypeValue::Single(place.set_type()),
            flags: Some(HashSet::from([SetFlag::Timeout])),
            ..Set::default()
        })));
    }
    if settings.drop {
        rules(&mut batch);
    }
    let mut elements = ByPlace::default();
    for (source, left) in blocks {
        elements.push(source, Some(left));
    }
    for element in elements.objects() {
        batch.add(element);
    }
    batch.to_nftables()
}

/// One transaction that adds, changes and removes. An element that is there keeps its time when it is added, and one that is
/// not cannot be deleted: so what may be there is added, deleted and added again.
pub(super) fn changed(changes: &[Change]) -> Nftables<'static> {
    let mut former = ByPlace::default();
    let mut gone = ByPlace::default();
    let mut next = ByPlace::default();
    for change in changes {
        if change.held {
            former.push(change.source, Some(Duration::from_secs(1)));
            gone.push(change.source, None);
        }
        if let Some(left) = change.left {
            next.push(change.source, Some(left));
        }
    }
    let mut batch = Batch::new();
    for element in former.objects() {
        batch.add(element);
    }
    for element in gone.objects() {
        batch.delete(element);
    }
    for element in next.objects() {
        batch.add(element);
    }
    batch.to_nftables()
}

/// Succeeds without a table, too.
pub(super) fn removed() -> Nftables<'static> {
    let mut batch = Batch::new();
    batch.add(table());
    batch.delete(table());
    batch.to_nftables()
}

fn table() -> NfListObject<'static> {
    NfListObject::Table(Table {
        family: NfFamily::INet,
        name: TABLE.into(),
        handle: None,
    })
}

fn rules(batch: &mut Batch<'static>) {
    let flags = masked(
        payload("tcp", "flags"),
        Expression::List(vec![word("ack"), word("rst")]),
    );
    let asks = ["echo-request", "timestamp-request", "address-mask-request"];
    let asks = asks.map(|name| SetItem::Element(word(name))).to_vec();
    let asks = Expression::Named(NamedExpression::Set(asks));
    let state = Expression::Named(NamedExpression::CT(CT {
        key: "state".into(),
        family: None,
        dir: None,
    }));
    let not_tcp = matches(meta(MetaKey::L4proto), Operator::NEQ, word("tcp"));
    let drops = [
        (
            REQUESTS,
            vec![matches(flags, Operator::EQ, Expression::Number(0))],
        ),
        (
            REQUESTS,
            vec![matches(payload("icmp", "type"), Operator::EQ, asks)],
        ),
        (
            REQUESTS,
            vec![matches(
                payload("icmpv6", "type"),
                Operator::EQ,
                word("echo-request"),
            )],
        ),
        (
            BEGINNINGS,
            vec![not_tcp, matches(state, Operator::IN, word("new"))],
        ),
    ];
    for name in [REQUESTS, BEGINNINGS] {
        batch.add(chain(name, None));
    }
    for (name, mut statements) in drops {
        statements.push(Statement::Counter(Counter::Anonymous(None)));
        statements.push(Statement::Drop(None));
        batch.add(rule(name, statements));
    }
    for (name, priority, target) in [
        ("before_tracking", RAW, REQUESTS),
        ("after_tracking", MANGLE, BEGINNINGS),
    ] {
        batch.add(chain(name, Some(priority)));
        let loopback = matches(meta(MetaKey::Iifname), Operator::EQ, word("lo"));
        batch.add(rule(name, vec![loopback, Statement::Accept(None)]));
        for place in Place::ALL {
            let set = Expression::String(format!("@{}", place.name()).into());
            let goto = Statement::Goto(JumpTarget {
                target: target.into(),
            });
            let blocked = matches(place.key(), Operator::EQ, set);
            batch.add(rule(name, vec![blocked, goto]));
        }
    }
}

fn chain(name: &'static str, priority: Option<i32>) -> NfListObject<'static> {
    NfListObject::Chain(Chain {
        family: NfFamily::INet,
        table: TABLE.into(),
        name: name.into(),
        _type: priority.map(|_| NfChainType::Filter),
        hook: priority.map(|_| NfHook::Prerouting),
        prio: priority,
        policy: priority.map(|_| NfChainPolicy::Accept),
        ..Chain::default()
    })
}

fn rule(chain: &'static str, statements: Vec<Statement<'static>>) -> NfListObject<'static> {
    NfListObject::Rule(Rule {
        family: NfFamily::INet,
        table: TABLE.into(),
        chain: chain.into(),
        expr: Cow::Owned(statements),
        ..Rule::default()
    })
}

fn matches(
    left: Expression<'static>,
    op: Operator,
    right: Expression<'static>,
) -> Statement<'static> {
    Statement::Match(Match { left, right, op })
}

fn word(text: &'static str) -> Expression<'static> {
    Expression::String(text.into())
}

fn meta(key: MetaKey) -> Expression<'static> {
    Expression::Named(NamedExpression::Meta(Meta { key }))
}

fn payload(protocol: &'static str, field: &'static str) -> Expression<'static> {
    Expression::Named(NamedExpression::Payload(Payload::PayloadField(
        PayloadField {
            protocol: protocol.into(),
            field: field.into(),
        },
    )))
}

fn masked(value: Expression<'static>, mask: Expression<'static>) -> Expression<'static> {
    Expression::BinaryOperation(Box::new(BinaryOperation::AND(value, mask)))
}

/// Elements, one command a set.
#[derive(Default)]
struct ByPlace(HashMap<Place, Vec<Expression<'static>>>);

impl ByPlace {
    fn push(&mut self, source: IpNet, left: Option<Duration>) {
        let Some(place) = Place::of(source) else {
            return;
        };
        let address = Expression::String(source.network().to_string().into());
        let element = match left {
            None => address,
            Some(left) => Expression::Named(NamedExpression::Elem(Elem {
                val: Box::new(address),
                timeout: Some(seconds(left)),
                expires: None,
                comment: None,
                counter: None,
            })),
        };
        self.0.entry(place).or_default().push(element);
    }

    fn objects(self) -> impl Iterator<Item = NfListObject<'static>> {
        self.0.into_iter().map(|(place, elements)| {
            NfListObject::Element(Element {
                family: NfFamily::INet,
                table: TABLE.into(),
                name: place.name().into(),
                elem: Cow::Owned(elements),
            })
        })
    }
}

/// Full seconds, rounded up: an element without a time would stay for ever.
fn seconds(left: Duration) -> u32 {
    let up = left.as_secs() + u64::from(left.subsec_nanos() > 0);
    u32::try_from(up).unwrap_or(u32::MAX).max(1)
}

/// How `nft` shows the table, without what changes by itself: counters and elements.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Look(Value);

impl Look {
    pub fn of(shown: &Value) -> Self {
        let mut look = shown.clone();
        forget(&mut look);
        Self(look)
    }

    /// The sets alone.
    pub fn sets(&self) -> Vec<&Value> {
        let objects = self.0.get("nftables").and_then(Value::as_array);
        let sets = objects.into_iter().flatten().filter_map(|o| o.get("set"));
        sets.collect()
    }
}

fn forget(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for name in ["metainfo", "counter", "elem"] {
                fields.remove(name);
            }
            fields.values_mut().for_each(forget);
        }
        Value::Array(items) => items.iter_mut().for_each(forget),
        _ => {}
    }
}

/// The elements that `nft` shows, and how long they stay.
pub(super) fn elements(shown: &Value) -> HashMap<IpNet, Duration> {
    let objects = shown.get("nftables").and_then(Value::as_array);
    let sets = objects.into_iter().flatten().filter_map(|o| o.get("set"));
    sets.flat_map(|set| {
        let name = set.get("name").and_then(Value::as_str);
        let place = Place::ALL.into_iter().find(|p| Some(p.name()) == name);
        let elements = set.get("elem").and_then(Value::as_array);
        let elements = elements.into_iter().flatten();
        elements.filter_map(move |element| element_of(place?, element))
    })
    .collect()
}

fn element_of(place: Place, element: &Value) -> Option<(IpNet, Duration)> {
    let element = element.get("elem")?;
    let address = element.get("val")?.as_str()?.parse().ok()?;
    let left = element.get("expires").and_then(Value::as_u64);
    Some((
        place.source(address)?,
        Duration::from_secs(left.unwrap_or_default()),
    ))
}

#[cfg(test)]
#[path = "table/tests.rs"]
mod tests;
