/* The matrix of callbacks and calls: in a delivery callback, in a log callback on the callback
 * thread and inside producer_poll(), in every function of an interceptor and in a serializer, every
 * function either does its work at once or says at once why not. */
#include "support.h"

typedef struct {
  producer_mock_cluster_t *cluster;
  atomic_uintptr_t producer;
  int which;
  bool polls;
  bool in_a_send; /* the callback is part of a send: nothing can be sent from it */
  atomic_int rounds, sent, configured, closed;
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
  const int32_t waits[] = {-1, 2 * LONG_MS, 0};
  for (size_t i = 0; i < sizeof waits / sizeof *waits; i++) {
    CHECK_FAILS(refused, producer_flush(producer, waits[i], &error));
    CHECK_FAILS(refused, producer_close(producer, waits[i], NULL, &error));
    CHECK_FAILS(refused, producer_send_sync(producer, &record, waits[i], &receipt, &error));
  }
  size_t accepted = 9;
  CHECK_FAILS(refused, producer_send(producer, &unknown, &error));
  unknown.topic = producer_str(names[1]);
  CHECK_FAILS(refused, producer_send_batch(producer, &unknown, 1, 2 * LONG_MS, &accepted,
                                           &error));
  CHECK_EQ(0, accepted);
  producer_partition_info_t info;
  size_t count = 0;
  CHECK_FAILS(refused, producer_partitions_for(producer, producer_str(names[2]), &info, 1,
                                               2 * LONG_MS, &count, &error));
}

/* A call that sends: done at once, or refused inside of another one. */
#define CHECK_SENDS(call) \
  do { \
    if (state->in_a_send) \
      CHECK_FAILS(PRODUCER_ERR_WOULD_DEADLOCK, call); \
    else \
      CHECK_OK(call); \
  } while (0)

/* Calls that do what they do without waiting. */
static void that_return(state_t *state, producer_t *producer) {
  producer_error_t error;
  producer_record_t record = {.topic = producer_str("t"), .value = producer_str("x"), .tag = 7};
  CHECK_SENDS(producer_send(producer, &record, &error));
  CHECK_SENDS(producer_try_send(producer, &record, &error));
  size_t accepted = 0, expected = state->in_a_send ? 0 : 1;
  CHECK_SENDS(producer_send_batch(producer, &record, 1, -1, &accepted, &error));
  CHECK_EQ(expected, accepted);
  const int32_t length = 1;
  producer_slice_t null = {NULL, 0};
  CHECK_SENDS(producer_send_columns(producer, record.topic, 0, null, NULL, record.value, &length, 1,
                                    7, -1, &accepted, &error));
  CHECK_EQ(expected, accepted);
  atomic_fetch_add(&state->sent, (int)expected * 4);
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
               producer_poll(producer, &delivery, 1, 2 * LONG_MS, &count));
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
  set_key(clone, "allow.auto.create.topics", "false");
  producer_t *other = start(clone);
  /* Nothing to give, and no time for it. */
  producer_delivery_t delivery;
  size_t count = 9;
  CHECK_STATUS(PRODUCER_OK, producer_poll(other, &delivery, 1, 2 * LONG_MS, &count));
  CHECK_EQ(0, count);
  /* Nor will it be known: no answer comes between two looks. */
  producer_record_t unknown = {.topic = producer_str("nobody-made-this")};
  CHECK_FAILS(state->in_a_send ? PRODUCER_ERR_WOULD_DEADLOCK : PRODUCER_ERR_METADATA_PENDING,
              producer_try_send(other, &unknown, &error));
  CHECK_FAILS(PRODUCER_ERR_WOULD_DEADLOCK, producer_flush(other, 2 * LONG_MS, &error));
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
  /* Nothing has waited: each wait would have been longer. */
  CHECK(now_ms() - begin < LONG_MS);
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

enum { DELIVERY, LOG, LOG_IN_POLL, ON_SEND, SERIALIZE, ACKNOWLEDGED, ACKNOWLEDGED_IN_POLL, REFUSED,
       CALLBACKS };

static producer_status_t configure(const producer_config_t *config, void *user_data) {
  state_t *state = user_data;
  bool in_a_send = state->in_a_send;
  CHECK(producer_config_get(config, "linger.ms"));
  state->in_a_send = false;
  with_another_producer(state);
  state->in_a_send = in_a_send;
  atomic_fetch_add(&state->configured, 1);
  return PRODUCER_OK;
}

static producer_status_t on_send(producer_record_t *record, producer_arena_t *arena, void *state) {
  (void)record, (void)arena;
  if (((state_t *)state)->which == ON_SEND) in_a_callback(state);
  return PRODUCER_OK;
}

static producer_status_t serialize(producer_slice_t topic, producer_slice_t input,
                                   producer_slice_t *output, producer_arena_t *arena, void *state) {
  (void)topic, (void)arena;
  *output = input;
  in_a_callback(state);
  return PRODUCER_OK;
}

static void on_acknowledgement(const producer_delivery_t *delivery, void *user_data) {
  state_t *state = user_data;
  bool refused = delivery->failure && delivery->failure->stage == PRODUCER_STAGE_REFUSED;
  bool accepted = state->which == ACKNOWLEDGED || state->which == ACKNOWLEDGED_IN_POLL;
  if (refused ? state->which == REFUSED : accepted) in_a_callback(state);
}

/* The producer takes nothing any more, and says so. */
static void on_close(void *user_data) {
  state_t *state = user_data;
  producer_t *producer = (producer_t *)atomic_load(&state->producer);
  producer_error_t error;
  producer_record_t record = {.topic = producer_str("t")};
  producer_receipt_t receipt;
  producer_partition_info_t info;
  producer_delivery_t delivery;
  producer_counters_t counters;
  size_t count;
  const producer_status_t closed = PRODUCER_ERR_CLOSED;
  CHECK_FAILS(closed, producer_send(producer, &record, &error));
  CHECK_FAILS(closed, producer_try_send(producer, &record, &error));
  CHECK_FAILS(closed, producer_send_batch(producer, &record, 1, -1, &count, &error));
  CHECK_FAILS(closed, producer_send_sync(producer, &record, -1, &receipt, &error));
  CHECK_FAILS(closed, producer_flush(producer, -1, &error));
  CHECK_FAILS(closed, producer_partitions_for(producer, record.topic, &info, 1, 0, &count, &error));
  CHECK_STATUS(closed, producer_purge(producer, producer_str("t"), -1));
  CHECK_FAILS(state->polls ? closed : PRODUCER_ERR_WOULD_DEADLOCK,
              producer_close(producer, -1, NULL, &error));
  CHECK_STATUS(state->polls ? PRODUCER_ERR_WOULD_DEADLOCK : PRODUCER_ERR_INVALID_STATE,
               producer_poll(producer, &delivery, 1, -1, &count));
  CHECK_STATUS(PRODUCER_OK, producer_get_counters(producer, &counters));
  CHECK_EQ(0, counters.pending);
  state->in_a_send = false;
  with_another_producer(state);
  atomic_fetch_add(&state->closed, 1);
}

static void run(producer_mock_cluster_t *cluster, int which) {
  producer_error_t error;
  bool polls = which == LOG_IN_POLL || which == ACKNOWLEDGED_IN_POLL;
  bool logs = which == LOG || which == LOG_IN_POLL;
  state_t state = {.cluster = cluster, .which = which, .polls = polls,
                   .in_a_send = which == ON_SEND || which == SERIALIZE || which == REFUSED};
  const producer_interceptor_t interceptor = {sizeof interceptor, &state,  configure,
                                              on_send, on_acknowledgement, on_close};
  const producer_serializer_t serializer = {sizeof serializer, &state, serialize, NULL};
  producer_config_t *config = config_for(cluster);
  set_key(config, "linger.ms", "0");
  if (which >= ON_SEND)
    CHECK_STATUS(PRODUCER_OK, producer_config_add_interceptor(config, &interceptor));
  if (which == SERIALIZE)
    CHECK_STATUS(PRODUCER_OK, producer_config_set_key_serializer(config, &serializer));
  if (which == DELIVERY)
    CHECK_STATUS(PRODUCER_OK, producer_config_set_delivery_callback(config, on_deliveries, &state));
  else if (logs)
    CHECK_STATUS(PRODUCER_OK, producer_config_set_log_callback(config, PRODUCER_LOG_DEBUG, on_line,
                                                               &state));
  if (polls) CHECK_STATUS(PRODUCER_OK, producer_config_enable_poll(config));
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
    if (logs)
      CHECK_STATUS(PRODUCER_OK, producer_mock_cluster_push_errors(cluster, 0, &cut, 1));
    CHECK_OK(producer_send(producer, &record, &error));
    sent++;
    producer_record_t nowhere = {.topic = record.topic, .flags = PRODUCER_RECORD_HAS_PARTITION,
                                 .partition = 99};
    if (which == REFUSED)
      CHECK_FAILS(PRODUCER_ERR_INVALID_ARGUMENT, producer_send(producer, &nowhere, &error));
    if (polls)
      CHECK_STATUS(PRODUCER_OK, producer_poll(producer, deliveries, 16, 10, &count));
    else
      CHECK_OK(producer_flush(producer, 30000, &error));
  }
  CHECK_EQ(3, state.rounds);
  CHECK_OK(producer_flush(producer, 30000, &error));
  CHECK_OK(producer_flush(producer, 30000, &error));
  CHECK_COUNTERS(producer, sent + state.sent, 0);
  CHECK_OK(producer_close(producer, 30000, NULL, &error));
  for (producer_status_t status = PRODUCER_OK; polls && status != PRODUCER_ERR_CLOSED;)
    status = producer_poll(producer, deliveries, 16, 10, &count);
  CHECK_EQ(which >= ON_SEND ? 1 : 0, state.configured);
  CHECK_EQ(which >= ON_SEND ? 1 : 0, state.closed);
  producer_free(producer);
}

/* ---- The handle is freed from inside: put off until the call, or the callback, is over ---- */

typedef struct {
  int which;
  atomic_uintptr_t producer;
  atomic_int returned, closed;
} freed_t;

static void free_inside(freed_t *freed, int which) {
  if (freed->which == which) producer_free((producer_t *)atomic_exchange(&freed->producer, 0));
}

static producer_status_t on_send_frees(producer_record_t *record, producer_arena_t *arena,
                                       void *freed) {
  (void)record;
  free_inside(freed, ON_SEND);
  CHECK(producer_arena_alloc(arena, 100));
  return PRODUCER_OK;
}

static void on_acknowledgement_frees(const producer_delivery_t *delivery, void *user_data) {
  freed_t *freed = user_data;
  /* No other call may be in progress: the send that is told of has to return first. */
  while (freed->which == ACKNOWLEDGED && !freed->returned) sleep_ms(1);
  free_inside(freed, ACKNOWLEDGED);
  CHECK(delivery->count >= 1);
}

static void on_close_frees(void *user_data) {
  freed_t *freed = user_data;
  free_inside(freed, CALLBACKS);
  atomic_fetch_add(&freed->closed, 1);
}

static void freed_inside(producer_mock_cluster_t *cluster, int which, bool polls) {
  producer_error_t error;
  freed_t freed = {.which = which};
  const producer_interceptor_t interceptor = {
      .struct_size = sizeof interceptor, .user_data = &freed, .on_send = on_send_frees,
      .on_acknowledgement = on_acknowledgement_frees, .on_close = on_close_frees};
  producer_config_t *config = config_for(cluster);
  CHECK_STATUS(PRODUCER_OK, producer_config_add_interceptor(config, &interceptor));
  if (polls) CHECK_STATUS(PRODUCER_OK, producer_config_enable_poll(config));
  producer_t *producer = start(config);
  atomic_store(&freed.producer, (uintptr_t)producer);
  producer_record_t records[3];
  for (int i = 0; i < 3; i++) records[i] = (producer_record_t){.topic = producer_str("t")};
  size_t accepted;
  /* With on_send the first of them frees the handle, and the others must not miss it. */
  producer_send_batch(producer, records, 3, 30000, &accepted, &error);
  atomic_store(&freed.returned, 1);
  if (which == CALLBACKS) {
    producer_delivery_t deliveries[4];
    CHECK_OK(producer_close(producer, 30000, NULL, &error));
    while (polls && producer_poll(producer, deliveries, 4, 30000, &accepted) == PRODUCER_OK)
      ;
  }
  EVENTUALLY(freed.closed);
  CHECK_EQ(1, freed.closed);
  CHECK_EQ(0, freed.producer);
}

int main(void) {
  producer_mock_cluster_t *cluster = new_cluster(1);
  CHECK_STATUS(PRODUCER_OK, producer_mock_cluster_create_topic(cluster, producer_str("t"), 1));
  for (int which = 0; which < CALLBACKS; which++) run(cluster, which);
  freed_inside(cluster, ON_SEND, false);
  freed_inside(cluster, ON_SEND, true);
  freed_inside(cluster, ACKNOWLEDGED, false);
  freed_inside(cluster, CALLBACKS, false);
  freed_inside(cluster, CALLBACKS, true);
  producer_mock_cluster_free(cluster);
  return 0;
}
