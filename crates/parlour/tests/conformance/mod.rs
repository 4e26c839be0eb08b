//! The contract that every transport fulfils, one scenario per function, one concept per file.
//!
//! A scenario knows its transport and its API only as a parameter, and asks the connection's capabilities where transports
//! may differ.

mod accept_threads;
mod allow;
#[allow(dead_code, reason = "each test executable runs one API")]
pub mod api;
mod choice;
mod death;
mod descriptors;
mod disconnect;
mod echo;
mod empty;
mod feed;
mod full;
mod half_close;
mod identity;
mod large;
mod lengths;
mod limit;
mod limits;
mod link;
mod long_names;
mod many_clients;
mod order;
mod poll_loops;
mod server_close;
mod shared;
mod shutdown;
mod split;
mod timeouts;
mod truncated;
mod vectored;
mod waiting;

use libtest_mimic::Trial;
use parlour::Transport;

use crate::support::{Role, skipped, trial};
use api::{Setting, Way};

/// One thing that must hold over every transport.
#[derive(Clone, Copy)]
struct Scenario {
    name: &'static str,
    run: fn(Setting),
    /// The APIs that it is about, where it is not about all, and why.
    only: Option<(&'static [Way], &'static str)>,
}

/// The roles of the children of scenarios.
pub const ROLES: &[Role] = &[many_clients::CHATTER, shared::FAN_OUT];

/// Every scenario with this API over every transport.
pub fn trials(way: Way) -> Vec<Trial> {
    let pairs = Transport::ALL.iter().flat_map(|&transport| ALL.iter().map(move |&scenario| (transport, scenario)));
    pairs
        .map(|(transport, Scenario { name, run, only })| {
            let name = format!("{transport}::{name}");
            match only {
                Some((ways, reason)) if !ways.contains(&way) => skipped(name, reason),
                _ => trial(name, move || run(Setting { transport, way })),
            }
        })
        .collect()
}

/// Every scenario, named after its function. Behind a name stand, where it is not about all APIs, those that it is about,
/// and why.
macro_rules! scenarios {
    ($($file:ident: $($name:ident $([$($way:ident),+: $reason:expr])?),+;)+) => {
        const ALL: &[Scenario] = &[$($(Scenario {
            name: stringify!($name),
            run: $file::$name,
            only: scenarios!(@only $($($way),+: $reason)?),
        }),+),+];
    };
    (@only) => { None };
    (@only $($way:ident),+: $reason:expr) => { Some((&[$(Way::$way),+], $reason)) };
}

const A_LOOP: &str = "a loop of the user's own over descriptors";
const HALVES: &str = "a hub has no half of a connection that could go alone";
const ENDS: &str = "a hub ends its connections when it ends, and a client that breaks a rule in both directions";
const SHUT: &str = "a hub that is told to shut down hears nobody any more";
const BOUNDED: &str = "what waits in a hub is bounded, fed or not";
const PLACES: &str = "in a hub the place of a client that has gone is free at once; hub/limits.rs has the limits";
const NO_PIDFD: &str = "a hub gives no descriptor of a process";
const NO_FDS: &str = "a hub receives descriptors and sends none";
const CHILDREN: &str = "all of its processes are children, and those are blocking";

scenarios! {
    echo:
        every_message_comes_back,
        every_message_comes_back_from_another_process;
    order:
        ten_thousand_messages_arrive_in_order;
    lengths:
        every_length_from_0_to_70_000_arrives_whole;
    limit:
        a_message_of_the_limit_passes_and_one_byte_more_is_refused_with_nothing_sent,
        the_limit_is_16_mib_unless_told_otherwise,
        a_receiver_with_a_lower_limit_refuses_and_stays_so [Blocking, Tokio: ENDS];
    empty:
        an_empty_message_is_not_the_end;
    full:
        when_both_directions_are_full_every_message_arrives_once,
        when_both_directions_are_full_receiving_is_enough,
        a_send_that_times_out_has_sent_nothing_or_keeps_the_rest,
        a_send_to_a_full_channel_goes_on_when_the_peer_reads;
    large:
        large_messages_pass_each_way,
        long_messages_pass_whatever_came_before_them,
        large_messages_pass_both_ways_at_once;
    vectored:
        a_message_in_parts_arrives_as_one;
    feed:
        fed_messages_arrive_apart_and_in_order,
        receiving_sends_what_was_fed_before_it_sleeps,
        feeding_past_64_kib_sends_by_itself,
        a_long_message_is_fed_without_waiting_for_others_and_overtakes_none,
        every_way_to_end_sends_what_was_fed,
        closing_waits_until_what_was_fed_is_sent [Blocking, Tokio: BOUNDED];
    half_close:
        finish_ends_one_direction_and_leaves_the_other,
        finish_wakes_a_peer_that_waits;
    disconnect:
        closing_ends_both_directions_after_the_last_message,
        closing_with_messages_unread_loses_nothing_that_was_sent,
        sending_to_a_peer_that_has_gone_raises_no_signal [Blocking: CHILDREN];
    split:
        the_halves_work_in_two_threads,
        dropping_the_sender_ends_only_its_direction [Blocking, Tokio: HALVES],
        dropping_the_receiver_ends_only_its_direction [Blocking, Tokio: HALVES],
        dropping_the_receiver_wakes_a_sender_that_waits [Blocking, Tokio: HALVES],
        dropping_the_sender_does_not_disturb_a_receiver_that_waits;
    truncated:
        a_message_torn_by_the_death_of_the_peer_is_truncated,
        a_message_torn_by_the_death_of_the_peer_wakes_its_receiver;
    death:
        the_death_of_the_peer_between_messages_is_the_end,
        the_death_of_the_peer_wakes_a_receiver_at_once,
        the_death_of_the_peer_wakes_a_sender_at_once,
        the_next_server_takes_the_name_of_a_killed_one_at_once,
        a_server_outlives_its_clients [Blocking, Tokio: ENDS];
    timeouts:
        receiving_gives_up_at_its_deadline,
        accepting_gives_up_at_its_deadline_and_loses_no_client,
        the_part_of_a_message_that_came_before_the_deadline_is_kept,
        a_deadline_of_one_half_does_not_touch_the_other,
        a_server_that_never_accepts_holds_nobody_past_the_deadline;
    poll_loops:
        a_loop_with_try_recv_misses_no_message_and_does_not_spin [Blocking: A_LOOP],
        a_descriptor_is_quiet_when_there_is_nothing_to_receive [Blocking: A_LOOP],
        has_message_tells_of_what_no_descriptor_will_announce [Blocking: A_LOOP],
        a_loop_with_try_send_gets_everything_through [Blocking: A_LOOP],
        the_sending_descriptor_shows_that_the_peer_reads_no_more [Blocking: A_LOOP],
        who_has_finished_has_no_sending_descriptor [Blocking: A_LOOP],
        a_server_in_a_poll_loop_misses_no_client_and_does_not_spin [Blocking: A_LOOP];
    many_clients:
        many_clients_at_once_have_each_their_own_conversation;
    accept_threads:
        several_threads_accept_on_one_server;
    shutdown:
        shutdown_ends_a_blocked_accept,
        shutdown_never_comes_too_early,
        shutdown_holds_for_every_thread_every_call_and_for_good [Blocking, Tokio: SHUT],
        incoming_ends_at_shutdown,
        incoming_ends_after_an_error;
    server_close:
        closing_a_server_removes_its_files_and_leaves_its_connections [Blocking, Tokio: ENDS],
        a_client_in_the_queue_of_a_server_that_goes_never_hangs [Blocking, Tokio: ENDS],
        a_name_can_be_taken_and_given_up_many_times;
    waiting:
        without_a_server_connecting_fails_at_once,
        waiting_for_a_server_ends_at_its_deadline,
        a_client_waits_for_a_server_that_starts_later,
        a_client_waits_where_not_even_the_base_exists,
        a_client_waits_while_its_server_restarts,
        a_client_waits_while_a_killed_server_is_replaced;
    choice:
        a_server_of_every_transport_serves_this_one [Blocking, Tokio: SHUT],
        a_client_that_demands_no_transport_takes_what_is_on_offer;
    limits:
        a_client_beyond_connections_max_is_turned_away [Blocking, Tokio: PLACES],
        a_client_beyond_its_users_connections_is_turned_away [Blocking, Tokio: PLACES];
    allow:
        a_client_that_the_policy_refuses_is_told_or_ended,
        a_panic_in_the_policy_comes_out_of_accept_and_the_server_goes_on;
    identity:
        each_side_knows_the_others_process_and_user,
        a_pidfd_of_the_peer_tells_of_its_death_where_the_kernel_gives_one [Blocking, Tokio: NO_PIDFD],
        the_capabilities_are_the_same_on_both_sides;
    long_names:
        a_name_of_64_bytes_works_in_a_base_of_any_length;
    descriptors:
        descriptors_arrive_with_their_message_and_no_other [Blocking, Tokio: NO_FDS],
        descriptors_that_the_other_side_does_not_allow_are_refused_and_nothing_is_sent [Blocking, Tokio: NO_FDS],
        more_descriptors_than_go_with_one_message_are_refused_and_nothing_is_sent [Blocking, Tokio: NO_FDS],
        descriptors_that_nobody_takes_are_closed [Blocking, Tokio: NO_FDS],
        a_full_channel_takes_neither_message_nor_descriptors [Blocking, Tokio: NO_FDS];
    shared:
        a_shared_block_is_read_where_it_is [Blocking, Tokio: NO_FDS],
        a_full_channel_takes_neither_message_nor_block [Blocking, Tokio: NO_FDS],
        a_block_goes_behind_all_that_waits_and_once,
        a_sender_of_blocks_that_waits_uses_no_time,
        one_block_goes_to_many_clients_and_is_never_copied;
}
