//! The attacks, their tests, and a check that the threat model lists both.

use std::collections::BTreeSet;

use crate::support::{declare, trials};

const THREAT_MODEL: &str = include_str!("../../THREAT_MODEL.md");

/// An attack, and the trials that carry it out. A name stands for that trial over every transport.
struct Row {
    attack: &'static str,
    /// Trials that the threat model names. `file.rs: name` is a trial of another executable, or a unit test.
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
        // The other executables have the names of these, and a check of all documents finds one that does not exist.
        let elsewhere: BTreeSet<String> =
            trials.iter().filter(|trial| trial.contains(": ")).map(|trial| (*trial).to_owned()).collect();
        let told_elsewhere = elsewhere_of(number);
        let differ = elsewhere.symmetric_difference(&told_elsewhere);
        wrong.extend(differ.map(|trial| format!("attack {number}: {trial} is not both here and in the threat model")));
        let here = trials.iter().filter(|trial| !trial.contains(": "));
        for trial in here.clone().filter(|trial| !told.contains(*trial)) {
            wrong.push(format!("attack {number}: {trial} is missing in the threat model"));
        }
        for pattern in here.chain(*more) {
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
    assert_eq!(ROWS.len(), 53);
}

/// Returns the tests outside of this executable that the threat model names for the attack with this number.
fn elsewhere_of(number: usize) -> BTreeSet<String> {
    let (_, attacks) = THREAT_MODEL.split_once("\n## The attacks\n").unwrap();
    let (_, section) = attacks.split_once(&format!("\n{number}. ")).unwrap_or_default();
    let section = section.split(&format!("\n{}. ", number + 1)).next().unwrap_or_default();
    let section = section.split("\n## ").next().unwrap_or_default();
    let tests = section.split("Test: ").skip(1).filter_map(|rest| rest.lines().next());
    tests.filter(|test| !test.starts_with("hostile.rs: ")).map(|test| test.replace('`', "")).collect()
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
            "any_system_call_of_take_over_may_fail_once",
            "any_system_call_of_hand_over_may_fail_once",
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
            "a_connector_refuses_a_link_as_base_since_its_last_connection",
            "a_connector_refuses_a_link_as_name_since_its_last_connection",
            "a_connector_refuses_a_link_as_socket_since_its_last_connection",
            "a_connector_refuses_a_name_that_was_given_to_another_user",
        ],
        more: &[
            "*_is_refused_and_left_as_it_is",
            "a_connector_refuses_*",
            "a_lock_with_a_second_hard_link_is_refused",
            "a_link_on_the_way_to_the_base_is_refused_and_its_target_named",
            "a_path_or_a_link_with_control_characters_is_escaped_in_errors",
            "an_address_that_ends_with_the_base_is_told_to_add_a_name",
        ],
    },
    Row {
        attack: "the parent of the base directory is writable by others",
        trials: &[
            "a_parent_that_others_may_write_is_refused_and_left_as_it_is",
            "a_connector_refuses_a_parent_that_others_may_write_since_its_last_connection",
        ],
        more: &["a_base_below_a_sticky_directory_that_others_may_write_is_accepted"],
    },
    Row {
        attack: "another user opens the files of a server",
        trials: &["another_user_cannot_open_anything_of_a_private_server"],
        more: &[
            "another_user_cannot_connect_to_a_private_server",
            "a_server_that_sets_the_group_of_others_says_so_and_leaves_no_socket",
            "a_private_directory_above_the_base_is_named_with_its_owner",
            "a_base_of_root_that_may_not_be_used_is_named_with_its_owner_and_the_next_step",
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
            "root_listens_for_the_user_to_whom_the_directory_belongs_and_for_no_other",
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
        more: &[
            "a_connection_goes_on_in_the_*",
            "a_message_fed_before_a_fork_is_sent_once_when_the_child_*",
            "a_forked_child_takes_no_change_away_from_the_connector_of_its_parent",
        ],
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
        more: &[
            "an_empty_datagram_is_the_end",
            "unsolicited_datagrams_change_nothing",
            "a_message_of_any_length_is_whole_whatever_length_is_expected",
        ],
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
            "every_call_returns_in_a_child_while_whose_fork_a_handshake_began",
            "every_call_returns_in_a_child_while_whose_fork_a_thread_took_a_name",
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
            "a_first_message_with_the_bytes_of_a_notice_is_a_message",
            "bytes_out_of_band_from_a_client_change_no_message_to_a_hub",
        ],
    },
    Row {
        attack: "either side of a hand-over is killed or stopped at each system call",
        trials: &[
            "a_successor_that_is_killed_at_any_system_call_leaves_one_server",
            "a_successor_that_is_stopped_at_any_system_call_has_the_name_when_it_goes_on",
            "a_holder_that_is_killed_at_any_system_call_leaves_its_successor",
            "a_holder_that_is_stopped_at_any_system_call_keeps_its_name_or_has_given_it_up",
            "a_candidate_that_takes_the_grant_and_ends_leaves_the_holder_as_it_was",
            "a_successor_that_is_killed_leaves_a_waiting_holder_as_it_was",
            "a_successor_that_is_stopped_delays_no_message_of_a_waiting_holder",
            "a_waiting_holder_that_is_killed_at_any_system_call_leaves_its_successor",
            "a_waiting_holder_that_is_stopped_at_any_system_call_goes_on_with_its_client",
        ],
        more: &[],
    },
    Row {
        attack: "a process that may not have a name asks its server for it, or says nothing",
        trials: &[
            "another_user_cannot_take_a_name_over",
            "another_user_cannot_take_a_name_that_is_yielded",
            "a_record_that_says_wrongly_that_its_server_yields_moves_no_name",
            "a_yielded_name_goes_to_a_server_while_another_candidate_says_nothing",
            "a_process_that_may_only_read_cannot_take_a_name_over",
            "junk_at_the_control_socket_is_refused_and_changes_nothing",
            "a_candidate_that_says_nothing_delays_no_client_and_is_dismissed",
            "a_candidate_of_a_waiting_holder_that_errs_or_says_nothing_delays_no_message",
            "a_shutdown_before_the_acknowledgement_ends_a_server_of_tasks_in_order",
        ],
        more: &[],
    },
    Row {
        attack: "a server of calls, or a caller, that answers, asks and floods as it likes",
        trials: &[
            "a_server_that_answers_what_was_never_asked_harms_no_call",
            "a_server_that_answers_twice_harms_no_call",
            "a_server_that_sends_garbage_ends_the_calls_of_its_connection_with_an_error",
            "a_server_that_floods_its_caller_with_pushed_messages_costs_bounded_memory",
            "a_server_that_never_answers_delays_no_other_call",
            "a_client_that_violates_the_protocol_of_calls_is_disconnected_and_another_is_served",
            "a_client_that_sends_requests_and_takes_no_answer_is_held_up_alone",
            "a_client_that_takes_no_items_holds_up_only_its_own_call",
            "a_client_with_many_long_requests_is_refused_before_they_cost_much_memory",
        ],
        more: &[],
    },
    Row {
        attack: "a client that forges the origin by which a bridge shows another host, or cannot show it",
        trials: &[
            "a_client_with_a_forged_origin_is_refused_and_no_file_of_it_stays",
            "a_client_over_fifo_with_a_forged_origin_is_refused_and_no_file_of_it_stays",
            "a_client_of_another_user_shows_no_origin",
            "a_server_believes_the_origin_that_root_shows",
            "a_client_of_root_that_cannot_show_its_origin_does_not_connect",
            "a_client_that_cannot_write_its_origin_does_not_connect",
            "a_client_with_an_origin_does_not_connect_through_a_read_only_base",
        ],
        more: &["an_origin_that_is_written_by_hand_is_read"],
    },
    Row {
        attack: "a peer that aborts at any point",
        trials: &[
            "a_peer_that_aborts_after_any_message_never_ends_cleanly",
            "an_abort_of_the_peer_wakes_a_half_that_waits",
            "a_head_one_byte_behind_the_tail_is_an_abort_of_that_direction",
        ],
        more: &[],
    },
    Row {
        attack: "a datagram of several messages that is torn, empty, too long, in a wrong place, or full of short ones",
        trials: &[
            "a_bad_packed_datagram_is_an_error_after_its_whole_messages",
            "descriptors_with_a_packed_datagram_are_closed_and_an_error",
            "a_client_of_a_hub_that_packs_its_messages_takes_turns_with_the_others",
        ],
        more: &["packed_messages_arrive_apart_whatever_their_lengths"],
    },
    Row {
        attack: "a process looks at the counters of a server, forges them, or points to something else",
        trials: &[
            "another_user_sees_nothing_of_the_counters_of_an_open_server",
            "no_process_of_the_same_user_can_change_the_counters_or_their_size",
            "an_owner_record_that_names_another_file_is_not_believed",
            "counters_with_any_content_are_read_within_bounds",
            "a_server_without_memory_for_counters_starts_and_serves",
            "a_server_that_is_not_dumpable_hands_its_counters_to_its_own_user_alone",
            "a_server_in_another_pid_namespace_hands_its_counters_out_while_it_waits",
            "a_forked_child_that_uses_a_connection_counts_and_records_nothing",
        ],
        more: &[],
    },
    Row {
        attack: "a reader of frames that attaches, counts, rings and holds as it likes",
        trials: &[
            "frames.rs: an_attach_with_other_descriptors_is_refused",
            "frames.rs: an_attach_with_other_memory_is_refused",
            "frames.rs: an_attach_with_other_bytes_is_refused",
            "frames.rs: a_reader_that_ended_before_it_was_admitted_is_refused",
            "frames.rs: a_reader_that_attaches_with_its_own_lease_returns_everything_at_its_end",
            "frames.rs: a_reader_that_shuts_its_lease_down_has_ended",
            "frames.rs: a_reader_that_shuts_its_lease_down_counts_until_it_closes_everything",
            "frames.rs: a_reader_that_rings_all_the_time_does_not_keep_the_publisher_awake",
            "frames.rs: a_reader_that_rings_once_for_each_request_is_ignored_as_well",
            "frames/pool.rs: one_user_gets_neither_all_shares_nor_all_leases",
            "frames.rs: a_reader_that_sends_descriptors_to_its_lease_leaves_none_behind",
            "frames.rs: a_reader_that_writes_any_counts_harms_no_other",
            "frames.rs: a_reader_that_keeps_its_frames_delays_no_other",
            "frames.rs: the_number_of_readers_is_limited_and_those_count_that_only_keep_a_frame",
            "frames/pool.rs: a_reader_of_another_user_is_refused_unless_every_user_may_attach",
            "frames.rs: a_reader_of_another_user_is_refused_by_a_pool_of_one_user",
            "frames.rs: another_user_that_keeps_its_frames_leaves_most_shares_to_others",
            "frames.rs: an_attach_with_too_many_descriptors_on_their_way_fails_and_works_later",
        ],
        more: &[],
    },
    Row {
        attack: "a publisher of frames that announces, sends and changes what it likes",
        trials: &[
            "frames.rs: a_pool_of_other_memory_is_not_mapped",
            "frames.rs: a_pool_beyond_the_limits_of_the_reader_is_not_mapped",
            "frames.rs: an_announcement_that_is_malformed_is_refused",
            "frames.rs: an_answer_that_brings_no_lease_is_refused",
            "frames.rs: a_frame_outside_of_its_pool_is_refused",
            "frames.rs: a_frame_before_the_lease_or_without_a_pool_is_refused",
            "frames.rs: a_message_that_is_no_frame_is_refused",
            "frames.rs: a_reader_that_has_failed_once_opens_nothing_from_a_pool_that_comes_later",
            "frames.rs: a_refused_frame_leaves_the_lease_and_the_other_frames",
            "frames.rs: a_copy_of_a_block_that_was_changed_is_an_error",
        ],
        more: &[],
    },
    Row {
        attack: "a publisher or a reader of frames is killed",
        trials: &[
            "frames.rs: a_killed_reader_returns_everything_and_leaves_no_descriptor",
            "frames.rs: a_killed_publisher_leaves_its_frames_to_their_readers",
            "frames.rs: readers_that_are_killed_at_any_time_take_nothing_with_them",
            "crates/parlour-c/tests/c.rs: frames_are_lent_and_return_whoever_keeps_them_or_is_killed",
        ],
        more: &[],
    },
    Row {
        attack: "a process taps a server, and stops, dies, reads slowly, or writes anything into the requests",
        trials: &[
            "another_user_cannot_tap_an_open_server",
            "a_server_that_is_not_dumpable_is_tapped_by_its_own_user_alone_and_only_if_it_allows_that",
            "a_server_in_another_pid_namespace_is_tapped_at_its_socket",
            "a_tapper_that_is_stopped_or_killed_holds_nothing_up_and_keeps_no_memory",
            "a_tapper_that_is_slow_loses_messages_and_counts_them",
            "requests_with_any_content_change_nothing_but_the_tap",
            "a_hundred_taps_see_every_message_and_no_more_than_there_are_places_begin",
            "a_tap_goes_on_while_the_name_is_handed_over",
            "long_messages_are_recorded_with_their_beginning_and_their_length",
            "descriptors_and_blocks_are_recorded_by_number",
            "a_message_that_was_not_sent_is_marked",
            "what_a_server_recorded_before_it_died_is_read_and_then_its_end",
            "a_tapper_without_descriptors_keeps_its_tap",
            "a_server_whose_page_of_requests_is_another_file_is_not_written_to",
        ],
        more: &[],
    },
];
