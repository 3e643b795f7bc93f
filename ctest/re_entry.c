/* The matrix of callbacks and calls: in a delivery callback, in a log callback on the callback
 * thread and in a log callback inside producer_poll(), every function either does its work at once
 * or says WOULD_DEADLOCK at once. */
#include "support.h"

typedef struct {
  producer_mock_cluster_t *cluster;
  atomic_uintptr_t producer;
  bool polls;
  atomic_int rounds, sent;
} state_t;

/* Calls that would wait for what this very callback holds up. */
static void that_would_wait(producer_t *producer, int round) {
  const producer_status_t refused = PRODUCER_ERR_WOULD_DEADLOCK;
  producer_error_t error;
  producer_receipt_t receipt;
  producer_record_t record = {.topic = producer_str("t"), .value = producer_str("x")};
  /* Asking for a topic creates it: another one each time. */
  char names[3][32];
  for (int i = 0; i < 3; i++) snprintf(names[i], sizeof names[i], "never-heard-of-%d-%d", round, i);
  producer_record_t unknown = {.topic = producer_str(names[0])};
  const int32_t waits[] = {-1, 60000, 0};
  for (size_t i = 0; i < sizeof waits / sizeof *waits; i++) {
    CHECK_FAILS(refused, producer_flush(producer, waits[i], &error));
    CHECK_FAILS(refused, producer_close(producer, waits[i], NULL, &error));
    CHECK_FAILS(refused, producer_send_sync(producer, &record, waits[i], &receipt, &error));
  }
  size_t accepted = 9;
  CHECK_FAILS(refused, producer_send(producer, &unknown, &error));
  unknown.topic = producer_str(names[1]);
  CHECK_FAILS(refused, producer_send_batch(producer, &unknown, 1, 60000, &accepted, &error));
  CHECK_EQ(0, accepted);
  producer_partition_info_t info;
  size_t count = 0;
  CHECK_FAILS(refused, producer_partitions_for(producer, producer_str(names[2]), &info, 1, 60000,
                                               &count, &error));
}

/* Calls that do what they do without waiting. */
static void that_return(state_t *state, producer_t *producer) {
  producer_error_t error;
  producer_record_t record = {.topic = producer_str("t"), .value = producer_str("x"), .tag = 7};
  CHECK_OK(producer_send(producer, &record, &error));
  CHECK_OK(producer_try_send(producer, &record, &error));
  size_t accepted = 0;
  CHECK_OK(producer_send_batch(producer, &record, 1, -1, &accepted, &error));
  CHECK_EQ(1, accepted);
  const int32_t length = 1;
  producer_slice_t null = {NULL, 0};
  CHECK_OK(producer_send_columns(producer, record.topic, 0, null, NULL, record.value, &length, 1, 7,
                                 -1, &accepted, &error));
  CHECK_EQ(1, accepted);
  atomic_fetch_add(&state->sent, 4);
  producer_partition_info_t info;
  size_t count = 0;
  CHECK_OK(producer_partitions_for(producer, record.topic, &info, 1, -1, &count, &error));
  CHECK_EQ(1, count);
  producer_counters_t counters;
  CHECK_STATUS(PRODUCER_OK, producer_get_counters(producer, &counters));
  CHECK(counters.accepted >= counters.acknowledged + counters.failed);
  /* On its way when this returns: nothing of this topic is there. */
  CHECK_STATUS(PRODUCER_OK, producer_purge(producer, producer_str("purged"), -1));
  CHECK_EQ(state->polls, producer_poll_fd(producer) >= 0);
  producer_delivery_t delivery;
  CHECK_STATUS(state->polls ? PRODUCER_ERR_WOULD_DEADLOCK : PRODUCER_ERR_INVALID_STATE,
               producer_poll(producer, &delivery, 1, 1000, &count));
  CHECK_TEXT("PRODUCER_OK", producer_status_name(PRODUCER_OK));
  CHECK(producer_status_message(PRODUCER_ERR_CLOSED)[0]);
  CHECK(producer_version()[0]);
}

/* Another producer may be made, used and freed. */
static void with_another_producer(state_t *state) {
  producer_error_t error;
  producer_config_t *config = config_for(state->cluster);
  CHECK(producer_config_get(config, "bootstrap.servers"));
  producer_config_t *clone = producer_config_clone(config);
  producer_config_free(config);
  CHECK_STATUS(PRODUCER_OK, producer_config_enable_poll(clone));
  producer_t *other = start(clone);
  /* Nothing to give, and no time for it. */
  producer_delivery_t delivery;
  size_t count = 9;
  int64_t begin = now_ms();
  CHECK_STATUS(PRODUCER_OK, producer_poll(other, &delivery, 1, 60000, &count));
  CHECK_EQ(0, count);
  CHECK(now_ms() - begin < 5000);
  producer_record_t unknown = {.topic = producer_str("t")};
  CHECK_FAILS(PRODUCER_ERR_METADATA_PENDING, producer_try_send(other, &unknown, &error));
  CHECK_FAILS(PRODUCER_ERR_WOULD_DEADLOCK, producer_flush(other, 1000, &error));
  producer_free(other);
}

static void in_a_callback(state_t *state) {
  static atomic_int round;
  producer_t *producer = (producer_t *)atomic_load(&state->producer);
  /* Lines of before producer_new() has returned have no producer yet; three rounds are enough. */
  if (!producer || atomic_load(&state->rounds) >= 3) return;
  int64_t begin = now_ms();
  that_would_wait(producer, atomic_fetch_add(&round, 1));
  that_return(state, producer);
  with_another_producer(state);
  CHECK(now_ms() - begin < 5000);
  atomic_fetch_add(&state->rounds, 1);
}

static void on_deliveries(const producer_delivery_t *deliveries, size_t count, void *state) {
  (void)deliveries, (void)count;
  in_a_callback(state);
}

static void on_line(producer_log_level_t level, const char *target, const char *message,
                    void *state) {
  (void)level, (void)target, (void)message;
  in_a_callback(state);
}

enum { DELIVERY, LOG, LOG_IN_POLL, CALLBACKS };

static void run(producer_mock_cluster_t *cluster, int which) {
  producer_error_t error;
  state_t state = {.cluster = cluster, .polls = which == LOG_IN_POLL};
  producer_config_t *config = config_for(cluster);
  set_key(config, "linger.ms", "0");
  if (which == DELIVERY)
    CHECK_STATUS(PRODUCER_OK, producer_config_set_delivery_callback(config, on_deliveries, &state));
  else
    CHECK_STATUS(PRODUCER_OK, producer_config_set_log_callback(config, PRODUCER_LOG_DEBUG, on_line,
                                                               &state));
  if (which == LOG_IN_POLL) CHECK_STATUS(PRODUCER_OK, producer_config_enable_poll(config));
  producer_t *producer = start(config);
  producer_record_t record = {.topic = producer_str("t"), .tag = 1};
  CHECK_OK(producer_send(producer, &record, &error));
  CHECK_OK(producer_flush(producer, 30000, &error));
  atomic_store(&state.producer, (uintptr_t)producer);
  producer_delivery_t deliveries[16];
  size_t count;
  int sent = 1;
  for (int i = 0; i < 3000 && state.rounds < 3; i++) {
    /* A broker that breaks the connection makes lines, a record makes a delivery. */
    const int32_t cut = 13;
    if (which != DELIVERY)
      CHECK_STATUS(PRODUCER_OK, producer_mock_cluster_push_errors(cluster, 0, &cut, 1));
    CHECK_OK(producer_send(producer, &record, &error));
    sent++;
    if (which == LOG_IN_POLL)
      CHECK_STATUS(PRODUCER_OK, producer_poll(producer, deliveries, 16, 10, &count));
    else
      CHECK_OK(producer_flush(producer, 30000, &error));
  }
  CHECK_EQ(3, state.rounds);
  CHECK_OK(producer_flush(producer, 30000, &error));
  CHECK_OK(producer_flush(producer, 30000, &error));
  CHECK_COUNTERS(producer, sent + state.sent, 0);
  CHECK_OK(producer_close(producer, 30000, NULL, &error));
  producer_free(producer);
}

int main(void) {
  producer_mock_cluster_t *cluster = new_cluster(1);
  CHECK_STATUS(PRODUCER_OK, producer_mock_cluster_create_topic(cluster, producer_str("t"), 1));
  for (int which = 0; which < CALLBACKS; which++) run(cluster, which);
  producer_mock_cluster_free(cluster);
  return 0;
}
