//! The simulator bites: each deliberate defect is found within 2,000 seeds, from `SIM_FIRST` on.

use super::{number_from, run};
use crate::defects::{self, Defect};

/// As many as CI runs.
const SEEDS: u64 = 2000;
/// Where nobody asked for so many, and the build is a slow one.
const FEW: u64 = 20;

/// Runs seeds with a defect until one fails.
fn is_found(defect: Defect) {
    let all = number_from("SIM_SEEDS").map_or(!cfg!(debug_assertions), |count| count >= SEEDS);
    defects::set(Some(defect));
    let first = number_from("SIM_FIRST").unwrap_or(1);
    let mut seeds = first..first + if all { SEEDS } else { FEW };
    let found = seeds.find_map(|seed| run(seed).err());
    defects::set(None);
    match found {
        Some(text) => println!("{defect:?}: {text:.300}"),
        None if all => panic!("{defect:?} is not found"),
        None => println!("{defect:?}: not under {FEW} seeds; SIM_SEEDS={SEEDS} looks further"),
    }
}

macro_rules! finds {
    ($($test:ident: $defect:ident;)*) => {
        $(
            #[test]
            fn $test() {
                is_found(Defect::$defect);
            }
        )*
    };
}

finds! {
    retries_in_the_order_they_came_back: DropRetryOrder;
    a_bump_on_any_45: BumpOnAny45;
    another_identity_for_what_may_be_written: RestartUndecided;
    new_sequence_numbers_on_retry: NewSequenceOnRetry;
    sequences_reset_on_an_unknown_topic: ResetOnUnknownTopic;
    an_epoch_used_twice: ReuseEpoch;
    batches_before_the_leader_knows_the_producer: SendBeforeKnown;
    a_flush_that_counts: FlushByCounting;
    a_lost_wake: LoseWake;
    a_report_too_many: ReportTwice;
    batches_lost_with_their_connection: ForgetOnDisconnect;
    no_answer_taken_for_not_written: UnansweredIsUnwritten;
    a_doubt_forgotten: ForgetDoubt;
    a_turn_given_away_at_expiry: FreeAtExpiry;
    no_expiry_in_flight: KeepInFlight;
    fronts_forgotten_at_close: CloseForgetsFronts;
    an_older_leader_epoch: OlderEpoch;
    a_batch_that_is_not_split: NeverSplit;
    pieces_of_one_sequence_number: PiecesShareSequence;
    the_record_behind_the_culprit_blamed: BlameTheNext;
    good_records_blamed: BlameAll;
    good_records_sent_after_all: BlameNobodyElse;
    a_leader_that_had_appended_before_it_left: IgnoreAppended;
    partitions_that_came_later: KeepPartitionCount;
    an_earlier_deadline_untold: TellOnce;
    deadlines_by_the_wall_clock: WallClock;
    brokers_that_moved_away: StayWithBrokers;
    brokers_that_never_answer: IgnoreTrigger;
    brokers_that_send_away: IgnoreSentAway;
    a_batch_nobody_compresses: ForgetQueued;
    a_compressed_batch_nobody_hears_of: LosePacked;
    a_result_in_another_batch_s_place: PackByPlace;
    a_compressed_batch_that_overtakes: PackedFirst;
    a_refusal_that_interceptors_miss: RefuseUntold;
    an_answer_that_interceptors_miss: AnswerUntold;
    a_change_that_another_one_s_failure_undoes: ForgetLastGood;
    an_end_inside_of_calls: EndTooEarly;
}
