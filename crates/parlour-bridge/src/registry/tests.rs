//! Tests of the part of a bridge in a registry.

use super::*;

const TTL: Duration = Duration::from_secs(300);
const T0: Duration = Duration::ZERO;

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

fn host(text: &str) -> Host {
    Host::parse(text).unwrap()
}

fn at(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

fn names(texts: &[&str]) -> BTreeSet<Name> {
    texts.iter().copied().map(name).collect()
}

fn wanted(list: &[(&str, &[&str])]) -> BTreeMap<Name, BTreeSet<Host>> {
    list.iter().map(|(text, hosts)| (name(text), hosts.iter().copied().map(host).collect())).collect()
}

/// The host `me` wants `wc` of a and b, and `x` of a.
fn registry() -> Registry {
    let realm = Realm::parse("main").unwrap();
    let endpoint = Endpoint::parse_address("me:7477");
    let myself = Myself { realm, host: host("me"), instance: Instance([1; 16]), endpoint, ttl: TTL };
    Registry::new(myself, wanted(&[("wc", &["a", "b"]), ("x", &["a"])]))
}

fn up(kept: Option<Duration>) -> Registry {
    let mut registry = registry();
    let keys = ["names.main.wc.a", "names.main.wc.b", "names.main.x.a"];
    assert_eq!(registry.up(kept, T0), [watch(&["names.main.wc.*", "names.main.x.*"], &keys)]);
    registry
}

fn watch(patterns: &[&str], keys: &[&str]) -> Action {
    let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
    Action::Watch { patterns: owned(patterns), keys: owned(keys) }
}

fn value(run: u8, endpoint: &str) -> String {
    Entry { instance: Instance([run; 16]), endpoint: Endpoint::parse_address(endpoint).unwrap() }.encode()
}

/// Hears an entry that is put now.
fn hear(registry: &mut Registry, key: &str, value: &str, now: Duration) -> Vec<Action> {
    registry.entry(&format!("names.main.{key}"), Source::Live, Some(value.as_bytes()), now)
}

fn stored(registry: &mut Registry, key: &str, value: &str, now: Duration) -> Vec<Action> {
    registry.entry(&format!("names.main.{key}"), Source::Stored, Some(value.as_bytes()), now)
}

fn endpoints(registry: &Registry, text: &str) -> Vec<String> {
    registry.endpoints(&host(text)).iter().map(|endpoint| endpoint.as_str().to_owned()).collect()
}

fn put(text: &str) -> Action {
    Action::Put(format!("names.main.{text}.me"), value(1, "me:7477"))
}

#[test]
fn own_names_are_put_when_they_have_a_server_and_again_before_they_expire() {
    let mut registry = up(None);
    assert_eq!(registry.offer(&names(&["p"]), at(10)), [put("p")]);
    let first = registry.deadline().unwrap();
    assert!(first > at(10) && first <= at(110), "{first:?}");
    assert_eq!(registry.offer(&names(&["p"]), at(10)), []);
    let before = first - Duration::from_millis(1);
    assert_eq!((registry.tick(before), registry.tick(first)), (vec![], vec![put("p")]));
    assert_eq!((registry.deadline(), registry.tick(first)), (Some(first + at(100)), vec![]));
    assert_eq!(registry.offer(&names(&["p", "q"]), first), [put("q")]);
    assert_eq!(registry.offer(&names(&["q"]), at(140)), [Action::Delete("names.main.p.me".into())]);
    assert_eq!((registry.quit(at(150)), registry.offered()), (vec![Action::Delete("names.main.q.me".into())], 0));
}

#[test]
fn a_registry_that_keeps_entries_for_a_shorter_time_gets_them_more_often() {
    let mut registry = up(Some(at(30)));
    registry.offer(&names(&["p"]), T0);
    registry.tick(at(10));
    assert_eq!(registry.deadline(), Some(at(20)));
    let mut registry = up(Some(at(3000)));
    registry.offer(&names(&["p"]), T0);
    registry.tick(at(100));
    assert_eq!(registry.deadline(), Some(at(200)));
}

#[test]
fn nothing_is_put_without_a_registry_and_everything_when_it_returns() {
    let mut registry = registry();
    assert_eq!((registry.offer(&names(&["p", "q"]), T0), registry.deadline()), (vec![], None));
    assert_eq!((registry.offer(&names(&["p"]), at(1)), registry.tick(at(1000))), (vec![], vec![]));
    let actions = registry.up(None, at(2000));
    assert!(matches!(actions[0], Action::Watch { .. }) && actions[1..] == [put("p")], "{actions:?}");
    registry.down();
    assert_eq!(registry.up(None, at(2001))[1..], [put("p")], "the registry may have lost it");
}

#[test]
fn a_host_without_an_address_puts_nothing() {
    let mut registry = registry();
    registry.myself.endpoint = None;
    registry.up(None, T0);
    assert_eq!((registry.offer(&names(&["p"]), T0), registry.offered(), registry.deadline()), (vec![], 0, None));
    assert_eq!(registry.quit(T0), []);
}

#[test]
fn a_host_is_found_once_and_again_when_it_has_moved_or_was_started_again() {
    let mut registry = up(None);
    let found = [Action::Found(host("a"))];
    assert_eq!(hear(&mut registry, "wc.a", &value(2, "a:1"), T0), found);
    assert_eq!(hear(&mut registry, "x.a", &value(2, "a:1"), T0), []);
    assert_eq!(hear(&mut registry, "wc.a", &value(2, "a:1"), at(100)), []);
    assert_eq!(hear(&mut registry, "wc.a", &value(2, "a:2"), at(101)), found);
    assert_eq!(endpoints(&registry, "a"), ["a:2", "a:1"]);
    assert_eq!(hear(&mut registry, "wc.a", &value(3, "a:2"), at(102)), found);
    assert_eq!((registry.hosts(), registry.watched()), (1, 2));
}

#[test]
fn only_hosts_that_may_have_a_name_are_remembered() {
    let mut registry = up(None);
    for key in ["wc.c", "x.b", "y.a", "wc.me"] {
        assert_eq!(hear(&mut registry, key, &value(2, "a:1"), T0), [], "{key}");
    }
    assert_eq!((registry.hosts(), registry.refused()), (0, 0));
}

#[test]
fn a_deleted_entry_is_forgotten_at_once() {
    let mut registry = up(None);
    hear(&mut registry, "wc.a", &value(2, "a:1"), T0);
    hear(&mut registry, "x.a", &value(2, "a:2"), T0);
    assert_eq!(registry.entry("names.main.wc.a", Source::Live, None, T0), []);
    assert_eq!(endpoints(&registry, "a"), ["a:2"]);
    registry.entry("names.main.x.a", Source::Live, None, T0);
    registry.entry("names.main.x.a", Source::Live, None, T0);
    assert_eq!((endpoints(&registry, "a"), registry.hosts()), (vec![], 0));
}

#[test]
fn an_entry_expires_after_its_time_once_the_registry_has_answered() {
    let mut registry = up(None);
    hear(&mut registry, "wc.a", &value(2, "a:1"), T0);
    hear(&mut registry, "wc.b", &value(2, "b:1"), at(100));
    assert_eq!((registry.deadline(), registry.tick(at(299))), (Some(at(300)), vec![]));
    assert_eq!((registry.tick(at(301)), registry.tick(at(302)), registry.hosts()), (vec![Action::Probe], vec![], 2));
    registry.answered();
    assert_eq!((endpoints(&registry, "a").len(), endpoints(&registry, "b").len()), (0, 1));
    assert_eq!(registry.deadline(), Some(at(400)));
    registry.answered();
    assert_eq!(registry.hosts(), 1);
}

#[test]
fn an_entry_lives_as_long_as_the_registry_keeps_it_if_that_is_longer() {
    let mut registry = up(Some(at(3000)));
    hear(&mut registry, "wc.a", &value(2, "a:1"), at(1));
    assert_eq!((registry.deadline(), registry.tick(at(3000)), registry.hosts()), (Some(at(3001)), vec![], 1));
    registry.down();
    registry.up(Some(at(4000)), at(3000));
    assert_eq!(registry.deadline(), Some(at(7000)));
    let mut registry = up(Some(at(30)));
    hear(&mut registry, "wc.a", &value(2, "a:1"), T0);
    assert_eq!(registry.deadline(), Some(at(300)), "an outage of a moment takes nothing away");
}

#[test]
fn an_entry_that_is_put_again_while_the_registry_is_asked_stays() {
    let mut registry = up(None);
    hear(&mut registry, "wc.a", &value(2, "a:1"), T0);
    assert_eq!(registry.tick(at(300)), [Action::Probe]);
    hear(&mut registry, "wc.a", &value(2, "a:1"), at(300));
    registry.answered();
    assert_eq!(endpoints(&registry, "a"), ["a:1"]);
}

#[test]
fn a_registry_that_is_gone_or_has_lost_its_contents_takes_no_known_host_away() {
    let mut registry = up(None);
    hear(&mut registry, "wc.a", &value(2, "a:1"), T0);
    // It is stopped, and answers nothing.
    assert_eq!(registry.tick(at(301)), [Action::Probe]);
    assert_eq!((registry.deadline(), registry.tick(at(5000)), registry.hosts()), (None, vec![], 1));
    registry.down();
    registry.answered();
    assert_eq!((registry.tick(at(9000)), registry.hosts()), (vec![], 1));
    registry.up(None, at(10_000));
    assert_eq!((registry.deadline(), registry.tick(at(10_299)), registry.hosts()), (Some(at(10_300)), vec![], 1));
    assert_eq!(registry.tick(at(10_300)), [Action::Probe]);
    registry.answered();
    assert_eq!(registry.hosts(), 0);
}

#[test]
fn other_names_are_watched_and_what_is_not_wanted_any_more_is_forgotten() {
    let mut registry = up(None);
    hear(&mut registry, "wc.a", &value(2, "a:1"), T0);
    hear(&mut registry, "x.a", &value(2, "a:1"), T0);
    assert_eq!(registry.want(wanted(&[("wc", &["a"]), ("x", &["a"])])), [], "nothing else has to be heard");
    assert_eq!(registry.want(wanted(&[("wc", &["a"])])), [watch(&["names.main.wc.*"], &["names.main.wc.a"])]);
    assert_eq!(endpoints(&registry, "a"), ["a:1"]);
    let again = [watch(&["names.main.wc.*"], &["names.main.wc.b"])];
    assert_eq!(registry.want(wanted(&[("wc", &["b"])])), again, "the entry of b has passed");
    assert_eq!(registry.hosts(), 0);
    assert_eq!(registry.want(BTreeMap::new()), [watch(&[], &[])]);
    registry.down();
    assert_eq!(registry.want(wanted(&[("wc", &["b"])])), []);
}

#[test]
fn the_hosts_that_are_known_stay_known_in_another_registry_of_the_realm() {
    let mut former = up(None);
    hear(&mut former, "wc.a", &value(2, "a:1"), T0);
    hear(&mut former, "wc.b", &value(2, "b:1"), T0);
    hear(&mut former, "wc.b", "junk", T0);
    let mut registry = registry();
    registry.want(wanted(&[("wc", &["a"])]));
    registry.inherit(former);
    assert_eq!((endpoints(&registry, "a"), registry.hosts(), registry.refused()), (vec!["a:1".to_owned()], 1, 1));
    assert_eq!((registry.deadline(), registry.tick(at(9000))), (None, vec![]));
    registry.up(None, at(9000));
    assert_eq!(registry.deadline(), Some(at(9300)));
    assert_eq!(hear(&mut registry, "wc.a", &value(2, "a:1"), at(9001)), [], "it is no news");
}

#[test]
fn junk_is_refused_logged_once_and_escaped_and_harms_nothing_that_is_known() {
    let mut registry = up(None);
    hear(&mut registry, "wc.a", &value(2, "a:1"), T0);
    let junk = hear(&mut registry, "wc.a", "1 \u{1b}[31m", T0);
    let expected = "the entry names.main.wc.a of the registry is refused: it is malformed";
    assert_eq!(junk, [Action::Log(expected.into())]);
    assert_eq!(hear(&mut registry, "wc.a", &"x".repeat(1 << 20), T0), [], "it was logged");
    assert_eq!(endpoints(&registry, "a"), ["a:1"]);
    let [Action::Log(line)] = &registry.entry("names.main.\u{1b}[31m\n.a", Source::Live, None, T0)[..] else {
        panic!()
    };
    assert!(line.contains("names.main.\\u{1b}[31m\\n.a") && line.bytes().all(|byte| byte >= b' '), "{line}");
    let mut lines = Vec::new();
    for number in 0..1000 {
        lines.extend(registry.entry(&format!("junk{number}{}", "x".repeat(1000)), Source::Live, Some(b""), T0));
    }
    let lengths = lines.iter().map(|line| if let Action::Log(line) = line { line.len() } else { usize::MAX });
    assert!(lengths.max() < Some(400), "{lines:?}");
    assert_eq!((lines.len() + 2, registry.refused()), (REFUSALS_LOGGED_MAX, 1003));
}

#[test]
fn a_text_of_the_registry_is_shown_short_and_in_ascii() {
    assert_eq!(shown("a b\t\u{202e}"), "a b\\t\\u{202e}");
    assert_eq!(shown(&"x".repeat(1000)).len(), SHOWN_LEN_MAX + 3);
}

#[test]
fn a_fleet_that_has_begun_at_once_does_not_go_on_at_once() {
    let parts: BTreeSet<u32> = (0..1000).map(|host| part(&format!("names.main.wc.host-{host}/example"))).collect();
    assert!(parts.len() > 200 && parts.iter().all(|part| (1..=PARTS).contains(part)), "{parts:?}");
}

#[test]
fn what_was_stored_is_older_than_what_is_heard_live() {
    let mut registry = up(None);
    assert_eq!(stored(&mut registry, "wc.a", &value(2, "a:1"), T0), [Action::Found(host("a"))]);
    registry.up(None, T0);
    hear(&mut registry, "wc.a", &value(3, "a:2"), T0);
    registry.entry("names.main.wc.b", Source::Live, None, T0);
    assert_eq!(stored(&mut registry, "wc.a", &value(2, "a:1"), T0), []);
    assert_eq!(stored(&mut registry, "wc.b", &value(2, "b:1"), T0), []);
    assert_eq!((endpoints(&registry, "a"), registry.hosts()), (vec!["a:2".to_owned()], 1));
}
