//! The attacks, their tests, and a check that the threat model lists both.

use std::collections::BTreeSet;

use crate::support::{declare, trials};

const THREAT_MODEL: &str = include_str!("../../THREAT_MODEL.md");

/// An attack, and the trials of this executable that carry it out. A name stands for that trial over every transport.
struct Row {
    attack: &'static str,
    /// Trials that the threat model names.
    trials: &'static [&'static str],
    /// Further trials of this attack. `*` stands for any part of a name.
    more: &'static [&'static str],
}

/// The trials that test the trials themselves.
const ABOUT_TRIALS: &[&str] = &[
    "the_attacks_the_trials_and_the_threat_model_agree",
    "the_race_witness_detects_two_owners",
    "everything_that_a_trial_leaves_behind_is_found",
];

trials! {
    the_attacks_the_trials_and_the_threat_model_agree,
}

/// Returns the name without the transport or the side in front.
fn base_name(name: &str) -> &str {
    name.rsplit("::").next().unwrap()
}

/// Checks that the threat model, the rows and the trials name each other completely.
fn the_attacks_the_trials_and_the_threat_model_agree() {
    let trials = declare::all(crate::FILES);
    let names: BTreeSet<String> = trials.iter().map(|trial| base_name(trial.name()).to_owned()).collect();
    let mut wrong = Vec::new();
    let told: BTreeSet<&str> =
        THREAT_MODEL.split("Test: hostile.rs: `").skip(1).filter_map(|rest| rest.split('`').next()).collect();
    let mut covered: BTreeSet<&str> = ABOUT_TRIALS.iter().copied().collect();
    for (number, Row { attack, trials, more }) in (1..).zip(ROWS) {
        if !THREAT_MODEL.contains(&format!("\n{number}. {}{} (promise", attack[..1].to_uppercase(), &attack[1..])) {
            wrong.push(format!("attack {number}, {attack}, is missing in the threat model"));
        }
        if trials.is_empty() {
            wrong.push(format!("attack {number}, {attack}, has no trial"));
        }
        for trial in trials.iter().filter(|trial| !told.contains(*trial)) {
            wrong.push(format!("attack {number}: {trial} is missing in the threat model"));
        }
        for pattern in trials.iter().chain(*more) {
            let fitting = names.iter().filter(|name| fits(name, pattern)).map(String::as_str);
            let mut fitting = fitting.peekable();
            if fitting.peek().is_none() {
                wrong.push(format!("attack {number}: the trial {pattern} does not exist"));
            }
            covered.extend(fitting);
        }
    }
    wrong.extend(
        told.iter()
            .filter(|name| !names.contains(**name))
            .map(|name| format!("the trial {name}, named in the threat model, does not exist")),
    );
    wrong.extend(
        ABOUT_TRIALS
            .iter()
            .filter(|name| !names.contains(**name))
            .map(|name| format!("the trial {name} does not exist")),
    );
    wrong.extend(
        names.iter().filter(|name| !covered.contains(name.as_str())).map(|name| format!("{name} belongs to no attack")),
    );
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(ROWS.len(), 42);
}

fn fits(name: &str, pattern: &str) -> bool {
    match pattern.split_once('*') {
        None => name == pattern,
        Some((begin, end)) => name.len() >= begin.len() + end.len() && name.starts_with(begin) && name.ends_with(end),
    }
}

/// The attacks, numbered from 1.
const ROWS: &[Row] = &[
    Row {
        attack: "eight starters race for one name and are killed at random",
        trials: &["eight_starters_that_are_killed_at_random_never_give_a_name_two_owners"],
        more: &[],
    },
    Row {
        attack: "forged client paths: links, a swapped directory, a relative path",
        trials: &[
            "a_link_in_the_place_of_a_clients_file_is_removed_and_its_target_stays",
            "a_client_in_a_directory_that_was_swapped_is_refused_and_nothing_of_it_removed",
            "a_client_that_is_bound_by_a_relative_path_is_refused_and_its_file_stays",
            "a_client_that_is_bound_elsewhere_under_a_proper_name_is_refused_and_its_file_stays",
        ],
        more: &[
            "a_client_bound_below_the_directory_of_client_files_is_refused_and_its_file_stays",
            "a_client_bound_under_a_name_that_the_library_does_not_make_counts_as_unbound",
            "a_client_bound_to_an_abstract_address_counts_as_unbound",
            "a_file_that_names_another_process_gives_a_client_no_other_identity",
        ],
    },
    Row {
        attack: "the client is killed at each system call of connect, send and close",
        trials: &[
            "a_client_that_is_killed_at_any_system_call_of_connect_harms_nobody",
            "a_client_that_is_killed_at_any_system_call_of_send_harms_nobody",
            "a_client_that_is_killed_at_any_system_call_of_close_harms_nobody",
        ],
        more: &[
            "the_server_removes_the_pair_that_a_client_has_not_removed",
            "a_client_whose_second_fifo_is_missing_is_dropped",
            "a_stalled_client_that_dies_frees_its_handshake_slot_immediately",
        ],
    },
    Row {
        attack: "the server is killed at each system call of start, accept, reply and close",
        trials: &[
            "a_server_that_is_killed_at_any_system_call_of_its_start_hinders_nobody",
            "a_server_that_is_killed_at_any_system_call_of_accept_is_noticed_and_replaced",
            "a_server_that_is_killed_at_any_system_call_of_its_reply_is_noticed_and_replaced",
            "a_server_that_is_killed_at_any_system_call_of_its_close_hinders_nobody",
            "a_new_server_does_not_see_requests_to_the_old_one",
        ],
        more: &[
            "a_server_that_dies_*",
            "a_server_that_greets_and_dies_is_noticed",
            "a_dead_servers_socket_is_immediately_reported_as_no_server",
            "clients_in_the_backlog_of_a_server_that_closes_see_the_end",
        ],
    },
    Row {
        attack: "the client, then the server, is stopped at each system call",
        trials: &[
            "a_client_that_is_stopped_at_any_system_call_of_connect_delays_nobody_and_goes_on",
            "a_client_that_is_stopped_at_any_system_call_of_send_delays_nobody_and_goes_on",
            "a_client_that_is_stopped_at_any_system_call_of_close_delays_nobody_and_goes_on",
            "a_client_that_is_stopped_for_longer_than_the_handshake_may_take_is_dropped",
            "a_server_that_is_stopped_at_any_system_call_of_accept_keeps_its_name_and_its_clients_time_out",
            "a_server_that_is_stopped_at_any_system_call_of_its_reply_keeps_its_name_and_goes_on",
            "a_server_that_is_stopped_at_any_system_call_of_its_close_has_the_name_or_has_given_it_up",
        ],
        more: &[
            "a_server_that_is_stopped_keeps_its_name_and_its_clients_time_out",
            "a_server_that_*_is_tried_again_until_the_deadline",
        ],
    },
    Row {
        attack: "positions and lengths in shared memory change constantly",
        trials: &["positions_and_lengths_that_change_constantly_cause_only_errors"],
        more: &[],
    },
    Row {
        attack: "memory that is unsealed, not a memory file, too small, or sparse",
        trials: &["memory_that_could_change_under_the_server_is_refused_before_it_is_mapped"],
        more: &[],
    },
    Row {
        attack: "floods of descriptors",
        trials: &[
            "descriptors_that_are_not_allowed_never_arrive",
            "one_descriptor_too_many_ends_the_connection_after_the_messages_before",
            "the_kernel_sends_at_most_253_descriptors_in_one_call",
            "descriptors_that_exceed_the_process_limit_end_the_connection",
            "descriptors_of_a_truncated_message_are_closed_immediately",
        ],
        more: &[
            "descriptors_add_up_over_the_pieces_of_a_message",
            "descriptors_that_are_never_received_are_closed",
            "messages_in_one_read_keep_their_own_descriptors",
        ],
    },
    Row {
        attack: "fifty clients connect while three descriptors are left",
        trials: &[
            "a_server_with_three_descriptors_left_does_not_spin_and_keeps_its_clients",
            "a_hub_with_three_descriptors_left_does_not_spin_and_keeps_its_clients",
            "a_server_without_any_descriptor_left_does_not_spin_and_recovers",
        ],
        more: &[
            "a_flood_beyond_the_limit_of_descriptors_is_worked_off_in_bounded_steps",
            "clients_beyond_the_limit_of_descriptors_*",
        ],
    },
    Row {
        attack: "every system call fails once",
        trials: &[
            "any_system_call_of_start_may_fail_once",
            "any_system_call_of_accept_may_fail_once",
            "any_system_call_of_hub_may_fail_once",
            "any_system_call_of_tokio_server_may_fail_once",
            "any_system_call_of_server_close_may_fail_once",
            "any_system_call_of_connect_may_fail_once",
            "any_system_call_of_tokio_may_fail_once",
            "any_system_call_of_send_may_fail_once",
            "any_system_call_of_receive_may_fail_once",
            "any_system_call_of_share_may_fail_once",
            "any_system_call_of_close_may_fail_once",
        ],
        more: &[],
    },
    Row {
        attack: "another user has created the base directory first",
        trials: &["another_users_base_is_refused_by_a_server", "another_users_name_directory_is_refused_by_a_server"],
        more: &["another_users_lock_is_refused_by_a_server"],
    },
    Row {
        attack: "a link, or a file of another type, takes the place of a directory or file",
        trials: &[
            "a_link_as_base_is_refused_and_left_as_it_is",
            "a_file_as_base_is_refused_and_left_as_it_is",
            "a_link_as_name_directory_is_refused_and_left_as_it_is",
            "a_link_as_lock_is_refused_and_left_as_it_is",
            "a_device_as_lock_is_refused_and_left_as_it_is",
            "a_directory_as_socket_is_refused_and_left_as_it_is",
            "a_file_as_fifo_is_refused_and_left_as_it_is",
        ],
        more: &[
            "*_is_refused_and_left_as_it_is",
            "a_lock_with_a_second_hard_link_is_refused",
            "a_link_on_the_way_to_the_base_is_refused_and_its_target_named",
            "a_path_or_a_link_with_control_characters_is_escaped_in_errors",
            "an_address_that_ends_with_the_base_is_told_to_add_a_name",
        ],
    },
    Row {
        attack: "the parent of the base directory is writable by others",
        trials: &["a_parent_that_others_may_write_is_refused_and_left_as_it_is"],
        more: &["a_base_below_a_sticky_directory_that_others_may_write_is_accepted"],
    },
    Row {
        attack: "another user opens the files of a server",
        trials: &["another_user_cannot_open_anything_of_a_private_server"],
        more: &[
            "another_user_cannot_connect_to_a_private_server",
            "a_server_that_sets_the_group_of_others_says_so_and_leaves_no_socket",
            "a_private_directory_above_the_base_is_named_with_its_owner",
            "an_error_names_the_other_side",
            "another_user_of_an_open_server_cannot_touch_anything_but_the_socket",
        ],
    },
    Row {
        attack: "another user's server squats on the name",
        trials: &[
            "a_squatter_in_a_shared_base_is_refused_by_uid",
            "another_users_server_is_refused_before_a_byte_is_sent",
            "another_users_sockets_that_look_like_a_dead_servers_do_not_keep_its_name",
        ],
        more: &[
            "a_socket_that_listens_elsewhere_under_the_path_of_a_dead_servers_does_not_keep_its_name",
            "a_socket_that_a_process_has_*_in_the_directory_of_a_name_keeps_it",
            "a_client_that_expects_another_user_refuses_a_server_of_its_own_user",
            "another_users_socket_in_a_directory_of_this_user_is_refused",
            "a_listener_of_another_user_than_the_sockets_owner_is_refused_by_its_peer_credentials",
            "another_users_server_is_accepted_when_it_is_expected",
            "roots_*",
        ],
    },
    Row {
        attack: "a peer's user has no id in the other side's user namespace",
        trials: &[
            "a_client_whose_user_the_servers_namespace_does_not_map_is_unknown_and_not_nobody",
            "a_server_whose_user_the_clients_namespace_does_not_map_is_refused",
            "a_server_and_a_client_in_a_namespace_of_only_their_user_find_each_other",
            "a_namespace_of_only_one_user_separates_nobody_from_the_servers_of_that_user",
            "a_base_of_a_user_whom_the_namespace_does_not_map_is_refused",
            "a_directory_that_anybody_may_have_created_is_refused_if_its_owner_is_not_mapped",
        ],
        more: &["a_user_with_the_id_of_unknown_users_is_refused"],
    },
    Row {
        attack: "a peer is in another PID namespace",
        trials: &[
            "a_client_in_a_pid_namespace_of_its_own_is_let_in",
            "a_server_in_a_pid_namespace_of_its_own_lets_its_clients_in",
        ],
        more: &[],
    },
    Row {
        attack: "a process id is reused between the request and its acknowledgement",
        trials: &["an_acknowledgement_with_a_wrong_nonce_is_refused"],
        more: &[
            "a_replayed_request_is_counted_and_has_no_effect",
            "a_request_that_is_repeated_during_its_handshake_has_no_effect",
            "an_acknowledgement_that_is_junk_is_refused",
        ],
    },
    Row {
        attack: "a process forks after connecting, and both processes write",
        trials: &[
            "each_process_can_take_one_direction",
            "the_peer_sees_the_end_when_both_processes_have_dropped_the_connection",
            "a_message_fed_before_a_fork_is_sent_once_when_the_child_exits",
        ],
        more: &["a_connection_goes_on_in_the_*", "a_message_fed_before_a_fork_is_sent_once_when_the_child_*"],
    },
    Row {
        attack: "the server forks, spawns a program and is killed",
        trials: &[
            "a_forked_child_that_outlives_the_server_does_not_keep_the_name",
            "a_spawned_program_that_outlives_the_server_does_not_keep_the_name",
        ],
        more: &[
            "a_forked_child_*",
            "a_grandchild_that_outlives_the_server_does_not_keep_the_name",
            "a_servers_end_frees_the_name_while_a_forked_child_lives",
        ],
    },
    Row {
        attack: "other code of the process opens and closes the lock file",
        trials: &["other_code_that_opens_and_closes_the_lock_file_does_not_free_the_name"],
        more: &[],
    },
    Row {
        attack: "two servers start at the same time, ten thousand times",
        trials: &[
            "one_of_two_servers_that_start_at_the_same_time_wins",
            "one_of_two_servers_that_start_at_the_same_time_in_a_new_directory_wins",
        ],
        more: &[
            "servers_that_start_and_end_by_*_never_give_a_name_two_owners",
            "*_at_any_system_call_of_a_start_leaves_one_owner",
        ],
    },
    Row {
        attack: "a client connects between bind and listen",
        trials: &["a_client_that_comes_between_bind_and_listen_is_served"],
        more: &[
            "a_server_that_never_listens_is_given_up_at_the_deadline",
            "a_full_backlog_*",
            "a_client_that_sleeps_in_a_full_backlog_*",
            "clients_of_a_full_backlog_*",
            "signals_neither_end_nor_extend_the_sleep_in_a_full_backlog",
            "a_crowd_at_a_backlog_of_one_is_served_to_the_last",
        ],
    },
    Row {
        attack: "a client connects before the server opens its FIFO, after its death, or while it is replaced",
        trials: &[
            "a_fifo_without_a_reader_is_reported_as_no_server",
            "a_server_that_is_killed_with_an_unread_request_is_reported_as_no_server",
            "a_client_that_waits_is_served_by_the_replacement_of_a_killed_server",
            "a_waiting_client_whose_server_is_replaced_at_any_system_call_of_connect_reaches_the_next",
        ],
        more: &["a_waiting_client_whose_server_is_replaced_in_a_new_directory_*", "waiting_clients_of_a_server_*"],
    },
    Row {
        attack: "the FIFO is kept full",
        trials: &[
            "a_full_fifo_is_reported_as_busy_at_the_clients_deadline_and_not_earlier",
            "open_connections_are_untouched_by_a_flood",
        ],
        more: &["a_client_of_a_full_backlog_is_served_when_space_becomes_free", "a_server_serves_again_after_a_flood"],
    },
    Row {
        attack: "an acknowledgement and messages in one read, byte by byte, and split anywhere",
        trials: &[
            "an_acknowledgement_and_the_first_messages_may_come_in_one_write",
            "an_acknowledgement_may_come_byte_by_byte",
            "three_frames_arrive_the_same_wherever_they_are_split",
        ],
        more: &[
            "a_message_arrives_the_same_wherever_it_is_split",
            "messages_that_follow_the_acknowledgement_in_any_pieces_arrive_whole",
            "the_client_removes_the_pair_before_it_acknowledges",
            "the_pair_*",
            "the_server_opens_the_fifo_to_the_client_before_the_one_from_it",
            "each_client_gets_its_own_channel",
        ],
    },
    Row {
        attack: "a header byte by byte, a header without a body, half a body",
        trials: &[
            "a_header_sent_byte_by_byte_does_not_extend_the_receivers_deadline",
            "a_header_without_a_body_costs_no_memory",
            "half_a_body_is_kept_until_the_rest_comes",
            "a_stalled_client_is_dropped_at_the_deadline_and_delays_nobody",
        ],
        more: &[
            "a_piece_without_its_rest_does_not_extend_the_receivers_deadline",
            "a_client_that_stalls_within_its_acknowledgement_is_dropped_at_the_deadline",
            "an_honest_client_gets_busy_until_a_stalled_handshake_ends",
            "only_handshakes_that_are_under_way_count_against_their_limit",
            "surplus_handshakes_are_told_that_the_server_is_busy",
        ],
    },
    Row {
        attack: "lengths at and beyond the limit",
        trials: &[
            "every_length_up_to_the_limit_is_taken_and_none_beyond",
            "a_length_over_the_limit_is_refused_and_costs_nothing",
        ],
        more: &["every_length_up_to_the_limit_is_taken_in_pieces_and_none_beyond"],
    },
    Row {
        attack: "datagrams that are empty, truncated, long or many",
        trials: &["empty_truncated_and_long_datagrams_are_told_apart", "a_flood_of_one_byte_messages_arrives_whole"],
        more: &["an_empty_datagram_is_the_end", "unsolicited_datagrams_change_nothing"],
    },
    Row {
        attack: "neither side reads",
        trials: &["when_neither_side_reads_both_sends_time_out_at_their_deadline_and_nothing_is_lost"],
        more: &[],
    },
    Row { attack: "a thousand signals per second", trials: &["a_storm_of_signals_changes_no_data"], more: &[] },
    Row {
        attack: "a host in which SIGPIPE kills the process",
        trials: &[
            "a_client_whose_peer_has_gone_gets_an_error_where_sigpipe_is_default",
            "a_server_whose_peer_has_gone_gets_an_error_where_sigpipe_is_default",
        ],
        more: &[
            "*_gets_an_error_where_sigpipe_is_pending",
            "*_first_broken_pipe_is_final",
            "a_fifo_at_its_end_stays_there_when_it_is_opened_for_writing_again",
            "the_rest_of_a_message_does_not_go_to_a_later_reader_of_the_fifo",
        ],
    },
    Row {
        attack: "the file system is full or read-only",
        trials: &[
            "a_file_system_that_is_full_is_a_typed_error_and_open_connections_go_on",
            "a_file_system_that_has_no_inodes_left_is_a_typed_error_and_open_connections_go_on",
            "a_file_system_that_is_read_only_is_a_typed_error_and_open_connections_go_on",
        ],
        more: &[],
    },
    Row {
        attack: "shared memory cannot be allocated",
        trials: &["memory_that_cannot_be_allocated_is_a_connect_error_and_raises_no_signal"],
        more: &["an_owner_record_over_the_limit_on_files_is_a_bind_error_and_raises_no_signal"],
    },
    Row {
        attack: "the reader of shared memory tries to change it",
        trials: &["the_reader_of_the_memory_cannot_change_it"],
        more: &[],
    },
    Row {
        attack: "the peer dies in the middle of a message",
        trials: &[
            "a_sender_that_is_killed_at_any_system_call_leaves_no_torn_message",
            "an_incomplete_message_is_truncated_when_its_sender_disconnects",
        ],
        more: &[],
    },
    Row {
        attack: "positions in shared memory that are behind, out of range, or go back",
        trials: &[
            "a_head_out_of_range_ends_the_connection_as_a_protocol_error",
            "a_tail_out_of_range_ends_the_connection_as_a_protocol_error",
        ],
        more: &[],
    },
    Row {
        attack: "one user takes all its connections and requests one more",
        trials: &[
            "a_user_at_its_connection_limit_is_refused_and_another_is_served",
            "a_user_that_takes_all_it_can_at_1024_descriptors_leaves_room_for_another",
            "a_user_with_half_messages_takes_its_share_of_memory_and_another_is_served",
        ],
        more: &["a_client_that_the_policy_rejects_gets_an_immediate_refusal"],
    },
    Row {
        attack: "clients and a server are killed and stopped at random for some time",
        trials: &["after_chaos_everything_works_and_nothing_is_left"],
        more: &[],
    },
    Row {
        attack: "junk, and the same messages over every transport",
        trials: &["junk_is_an_error_or_messages_and_nothing_else", "every_transport_delivers_the_same_messages"],
        more: &[
            "junk_in_datagrams_is_an_error_or_messages_and_nothing_else",
            "a_line_*",
            "half_a_line_does_not_hide_the_honest_request_behind_it",
            "an_answer_that_*",
            "empty_lines_are_not_counted_as_refusals",
            "a_request_for_files_that_are_not_there_is_counted",
            "a_request_in_pieces_is_put_together",
        ],
    },
    Row {
        attack: "a process forks while its threads accept, send and receive",
        trials: &[
            "every_call_returns_in_a_child_that_is_forked_while_a_thread_holds_the_servers_lock",
            "every_call_returns_in_children_that_are_forked_among_busy_threads",
        ],
        more: &["a_shutdown_from_a_forked_child_ends_accept_in_the_parent"],
    },
    Row {
        attack: "a refusal that is forged, and bytes out of band anywhere in a stream",
        trials: &[
            "a_notice_behind_a_message_is_no_refusal",
            "a_client_cannot_refuse_a_server",
            "bytes_out_of_band_from_a_client_change_no_message",
            "bytes_out_of_band_from_a_server_are_bytes_of_the_stream",
            "many_bytes_out_of_band_end_one_connection_at_most",
        ],
        more: &[
            "a_*_refused_peer_sees_the_end",
            "bytes_like_a_notice_are_no_refusal",
            "bytes_out_of_band_from_a_client_change_no_message_to_a_hub",
        ],
    },
];
