/* A partitioner of the user's: what it is shown, how often, on which thread and when last; what its
 * answers do; what it may call; and tables that are none. */
#include "support.h"

#include <sys/syscall.h>

enum { PARTITIONS = 6, HEADERS = 20, WAYS = 5 };

typedef struct {
  producer_t *producer, *other;
  ledger_t ledger;
  atomic_int calls, closed, reported_before_close, answer, reenter;
  atomic_long thread;
  const producer_record_t *expected;
} state_t;

static void expect(const char *message, const char *words) {
  if (!strstr(message, words)) FAIL("\"%s\" does not say %s", message, words);
}

/* ---- Tables ---- */

static int32_t first(const producer_record_t *record, const producer_partition_info_t *partitions,
                     size_t count, void *user_data) {
  (void)record, (void)partitions, (void)count;
  if (user_data) atomic_fetch_add((atomic_int *)user_data, 1);
  return 0;
}

/* As a program has it that was compiled against a header to come. */
typedef struct {
  producer_partitioner_t known;
  void (*newer)(void *user_data);
} longer_t;

static void never(void *user_data) {
  (void)user_data;
  FAIL("this is not to be called");
}

static void tables(producer_mock_cluster_t *cluster) {
  const producer_status_t bad = PRODUCER_ERR_INVALID_ARGUMENT;
  producer_config_t *config = config_for(cluster);
  producer_partitioner_t table = {.struct_size = sizeof table, .partition = first};
  CHECK_STATUS(bad, producer_config_set_partitioner(NULL, &table));
  CHECK_STATUS(bad, producer_config_set_partitioner(config, NULL));
  CHECK_STATUS(bad, producer_config_set_partitioner(NULL, NULL));
  const size_t least = offsetof(producer_partitioner_t, on_close);
  const size_t none[] = {0, 1, sizeof(size_t), least - 1, 1 << 20, SIZE_MAX};
  for (size_t i = 0; i < sizeof none / sizeof *none; i++) {
    table.struct_size = none[i];
    CHECK_STATUS(bad, producer_config_set_partitioner(config, &table));
  }
  table = (producer_partitioner_t){.struct_size = sizeof table};
  CHECK_STATUS(bad, producer_config_set_partitioner(config, &table));

  /* An older program's: what lies behind its end is not read. */
  producer_error_t error;
  atomic_int calls = 0;
  producer_record_t record = {.topic = producer_str("t")};
  producer_partitioner_t *shorter = malloc(least);
  CHECK(shorter);
  const producer_partitioner_t filled = {least, &calls, first, NULL};
  memcpy((void *)shorter, &filled, least);
  CHECK_STATUS(PRODUCER_OK, producer_config_set_partitioner(config, shorter));
  free(shorter);
  producer_t *producer = start(producer_config_clone(config));
  CHECK_OK(producer_send(producer, &record, &error));
  producer_free(producer);
  CHECK_EQ(1, calls);

  /* A newer one's: what this version does not know must not be asked for. */
  longer_t longer = {.known = {sizeof longer, &calls, first, NULL}, .newer = never};
  CHECK_STATUS(bad, producer_config_set_partitioner(config, &longer.known));
  longer.newer = NULL;
  CHECK_STATUS(PRODUCER_OK, producer_config_set_partitioner(config, &longer.known));
  memset(&longer, 0xff, sizeof longer); /* it was copied */
  producer = start(config);
  CHECK_OK(producer_send(producer, &record, &error));
  producer_free(producer);
  CHECK_EQ(2, calls);
}

static void a_class_beside_it(producer_mock_cluster_t *cluster) {
  producer_error_t error;
  producer_t *producer = NULL;
  const producer_partitioner_t table = {sizeof table, NULL, first, never};
  producer_config_t *config = config_for(cluster);
  CHECK_STATUS(PRODUCER_OK, producer_config_set_partitioner(config, &table));
  set_key(config, "partitioner", "murmur2_random");
  CHECK_FAILS(PRODUCER_ERR_INVALID_CONFIG, producer_new(config, &producer, &error));
  expect(error.message, "partitioner=murmur2_random");
  expect(error.message, "producer_config_set_partitioner()");
  CHECK(!producer);
  producer_config_free(config);
}

/* ---- What it sees and may do ---- */

/* One of the ways to send a record; its status. */
static producer_status_t send_by(int way, producer_t *producer, const producer_record_t *record,
                                 size_t *accepted, producer_error_t *error) {
  producer_receipt_t receipt;
  const int32_t value_len = (int32_t)record->value.len;
  const int32_t key_len = record->key.data ? (int32_t)record->key.len : -1;
  *accepted = 77;
  switch (way) {
    case 0: return producer_send(producer, record, error);
    case 1: return producer_try_send(producer, record, error);
    case 2: return producer_send_sync(producer, record, 30000, &receipt, error);
    case 3: return producer_send_batch(producer, record, 1, 30000, accepted, error);
    default:
      return producer_send_columns(producer, record->topic, -1, record->key, &key_len,
                                   record->value, &value_len, 1, record->tag, 30000, accepted,
                                   error);
  }
}

static void nothing_is_sent_from(producer_t *producer, const producer_record_t *record) {
  producer_error_t error;
  size_t accepted;
  for (int way = 0; way < WAYS; way++) {
    CHECK_FAILS(PRODUCER_ERR_WOULD_DEADLOCK, send_by(way, producer, record, &accepted, &error));
    CHECK(way < 3 || accepted == 0);
  }
  CHECK_FAILS(PRODUCER_ERR_WOULD_DEADLOCK, producer_flush(producer, 1000, &error));
  CHECK_FAILS(PRODUCER_ERR_WOULD_DEADLOCK, producer_close(producer, 1000, NULL, &error));
  producer_partition_info_t infos[PARTITIONS];
  size_t count = 0;
  CHECK_OK(producer_partitions_for(producer, record->topic, infos, PARTITIONS, 0, &count, &error));
  CHECK_EQ(PARTITIONS, count);
  producer_counters_t counters;
  CHECK_STATUS(PRODUCER_OK, producer_get_counters(producer, &counters));
}

static void check_record(const producer_record_t *seen, const producer_record_t *sent) {
  CHECK(same_bytes(sent->topic, seen->topic));
  CHECK(same_bytes(sent->key, seen->key));
  CHECK(same_bytes(sent->value, seen->value));
  CHECK_EQ(sent->tag, seen->tag);
  CHECK_EQ(sent->flags & PRODUCER_RECORD_HAS_TIMESTAMP, seen->flags);
  if (seen->flags) CHECK_EQ(sent->timestamp_ms, seen->timestamp_ms);
  CHECK_EQ(sent->timeout_ms, seen->timeout_ms);
  CHECK(seen->reserved == 0 && seen->extension == NULL);
  CHECK_EQ(sent->header_count, seen->header_count);
  for (size_t i = 0; i < seen->header_count; i++) {
    CHECK(same_bytes(sent->headers[i].key, seen->headers[i].key));
    CHECK(same_bytes(sent->headers[i].value, seen->headers[i].value));
  }
}

static int32_t watch(const producer_record_t *record, const producer_partition_info_t *partitions,
                     size_t count, void *user_data) {
  state_t *state = user_data;
  atomic_fetch_add(&state->calls, 1);
  CHECK_EQ(0, state->closed);
  CHECK_EQ(state->thread, syscall(SYS_gettid));
  CHECK_EQ(PARTITIONS, count);
  for (size_t i = 0; i < count; i++) {
    CHECK_EQ(i, partitions[i].partition);
    CHECK_EQ(i == 2 ? -1 : (int)(i % 3) + 1, partitions[i].leader);
    CHECK(partitions[i].leader_epoch >= 0);
    CHECK_EQ(3, partitions[i].replica_count);
    CHECK_EQ(3, partitions[i].in_sync_replica_count);
    CHECK_EQ(0, partitions[i].reserved);
  }
  check_record(record, state->expected);
  if (state->reenter) {
    nothing_is_sent_from(state->producer, record);
    nothing_is_sent_from(state->other, record);
  }
  return state->answer;
}

static void on_deliveries(const producer_delivery_t *deliveries, size_t count, void *user_data) {
  state_t *state = user_data;
  CHECK_EQ(0, state->closed);
  ledger_callback(deliveries, count, &state->ledger);
}

static void on_close(void *user_data) {
  state_t *state = user_data;
  atomic_fetch_add(&state->closed, 1);
  state->reported_before_close = (int)state->ledger.reported;
  producer_error_t error;
  CHECK_FAILS(PRODUCER_ERR_WOULD_DEADLOCK, producer_flush(state->other, 1000, &error));
}

static void sees_every_record_once(producer_mock_cluster_t *cluster) {
  producer_error_t error;
  size_t accepted, sync = 0, tag = 0;
  state_t state = {.answer = 4};
  ledger_init(&state.ledger, 1000);
  const producer_partitioner_t table = {sizeof table, &state, watch, on_close};
  producer_config_t *config = config_for(cluster);
  state.other = start(producer_config_clone(config));
  producer_record_t warm = {.topic = producer_str("seen"), .partition = 1,
                            .flags = PRODUCER_RECORD_HAS_PARTITION};
  CHECK_OK(producer_send(state.other, &warm, &error));
  CHECK_STATUS(PRODUCER_OK, producer_config_set_partitioner(config, &table));
  CHECK_STATUS(PRODUCER_OK, producer_config_set_delivery_callback(config, on_deliveries, &state));
  state.producer = start(config);
  state.thread = syscall(SYS_gettid);

  producer_header_t headers[HEADERS];
  for (int i = 0; i < HEADERS; i++)
    headers[i] = (producer_header_t){producer_str("key"), bytes_of(i % 2 ? "v" : NULL, i % 2)};
  const producer_record_t shapes[] = {
      {.topic = producer_str("seen"), .value = producer_str("v")},
      {.topic = producer_str("seen"), .key = producer_str("k"), .value = producer_str("v")},
      {.topic = producer_str("seen"), .key = bytes_of("", 0), .value = producer_str("v")},
      {.topic = producer_str("seen"), .key = producer_str("k"), .value = producer_str("v"),
       .headers = headers, .header_count = 3, .timestamp_ms = 1234,
       .flags = PRODUCER_RECORD_HAS_TIMESTAMP, .timeout_ms = 60000},
      {.topic = producer_str("seen"), .value = producer_str("v"), .headers = headers,
       .header_count = HEADERS},
  };
  const int count = sizeof shapes / sizeof *shapes;
  for (int round = 0; round < 3; round++) {
    for (int shape = 0; shape < count; shape++) {
      for (int way = 0; way < WAYS; way++) {
        if (way == 4 && shape >= 3) continue; /* columns have neither headers nor timestamps */
        producer_record_t record = shapes[shape];
        record.tag = way == 2 ? 999 : tag;
        state.expected = &record;
        state.reenter = round == 1;
        state.answer = (int)(round + shape) % 2 ? 4 : 5;
        int calls = state.calls;
        /* Of a topic that nobody has asked for, a call that may not wait knows nothing. */
        producer_status_t status = send_by(way, state.producer, &record, &accepted, &error);
        if (status != PRODUCER_OK) FAIL("way %d, shape %d: %s", way, shape, error.message);
        CHECK_EQ(calls + 1, state.calls);
        if (way == 2) sync++;
        else tag++;
      }
    }
  }
  /* A partition of the record's own: nobody is asked. */
  int calls = state.calls;
  for (int i = 0; i < 2; i++) {
    producer_record_t own = {.topic = producer_str("seen"), .tag = tag++, .partition = 3,
                             .flags = PRODUCER_RECORD_HAS_PARTITION};
    CHECK_OK(i ? producer_send_batch(state.producer, &own, 1, -1, &accepted, &error)
               : producer_send(state.producer, &own, &error));
  }
  CHECK_EQ(calls, state.calls);
  CHECK_OK(producer_flush(state.producer, 30000, &error));
  const int64_t four = producer_mock_cluster_end_offset(cluster, producer_str("seen"), 4);
  const int64_t five = producer_mock_cluster_end_offset(cluster, producer_str("seen"), 5);
  CHECK_EQ(tag + sync - 2, four + five);
  CHECK(four > 0 && five > 0);
  CHECK_EQ(2, producer_mock_cluster_end_offset(cluster, producer_str("seen"), 3));

  /* Each answer that is none fails that record alone. */
  const int32_t none[] = {-1, -2, PARTITIONS, INT32_MAX, INT32_MIN};
  for (size_t i = 0; i < sizeof none / sizeof *none; i++) {
    for (int way = 0; way < WAYS; way++) {
      char number[16];
      producer_record_t record = shapes[1];
      state.expected = &record;
      state.answer = none[i];
      CHECK_FAILS(PRODUCER_ERR_PARTITIONING,
                  send_by(way, state.producer, &record, &accepted, &error));
      CHECK_EQ(0, error.flags);
      CHECK(way < 3 || accepted == 0);
      snprintf(number, sizeof number, "answered %d", (int)none[i]);
      expect(error.message, number);
      expect(error.message, "topic seen");
      expect(error.message, "0 to 5");
    }
  }
  state.answer = 5;
  producer_record_t last = shapes[0];
  last.tag = tag++;
  state.expected = &last;
  CHECK_OK(producer_send(state.producer, &last, &error));
  CHECK_OK(producer_close(state.producer, 30000, NULL, &error));
  CHECK_COUNTERS(state.producer, tag + sync, 0);
  CHECK_EQ(1, state.closed);
  CHECK_FAILS(PRODUCER_ERR_CLOSED, producer_send(state.producer, &last, &error));
  producer_free(state.producer);
  CHECK_EQ(1, state.closed);
  CHECK_EQ(tag, state.reported_before_close);
  state.ledger.size = tag;
  CHECK_LEDGER(&state.ledger, 0);
  ledger_free(&state.ledger);
  producer_free(state.other);
}

typedef struct {
  atomic_int entered, let_go, closed;
} gate_t;

static void at_the_gate(const producer_delivery_t *deliveries, size_t count, void *user_data) {
  gate_t *gate = user_data;
  (void)deliveries, (void)count;
  atomic_store(&gate->entered, 1);
  EVENTUALLY(atomic_load(&gate->let_go));
  CHECK_EQ(0, gate->closed);
}

static int32_t at_first(const producer_record_t *record,
                        const producer_partition_info_t *partitions, size_t count,
                        void *user_data) {
  (void)user_data;
  return first(record, partitions, count, NULL);
}

static void close_the_gate(void *user_data) {
  atomic_fetch_add(&((gate_t *)user_data)->closed, 1);
}

/* As long as a callback runs there may be more deliveries, and the end of the partitioner, which is
 * the last of all, has to wait. */
static void its_end_waits_for_callbacks(producer_mock_cluster_t *cluster) {
  producer_error_t error;
  gate_t gate = {0};
  const producer_partitioner_t table = {sizeof table, &gate, at_first, close_the_gate};
  producer_config_t *config = config_for(cluster);
  CHECK_STATUS(PRODUCER_OK, producer_config_set_partitioner(config, &table));
  CHECK_STATUS(PRODUCER_OK, producer_config_set_delivery_callback(config, at_the_gate, &gate));
  producer_t *producer = start(config);
  producer_record_t record = {.topic = producer_str("t")};
  CHECK_OK(producer_send(producer, &record, &error));
  EVENTUALLY(atomic_load(&gate.entered));
  CHECK_FAILS(PRODUCER_ERR_TIMED_OUT, producer_close(producer, 0, NULL, &error));
  CHECK_EQ(0, gate.closed);
  atomic_store(&gate.let_go, 1);
  CHECK_OK(producer_close(producer, LONG_MS, NULL, &error));
  CHECK_EQ(1, gate.closed);
  producer_free(producer);
  CHECK_EQ(1, gate.closed);
}

/* ---- A prefix of a batch, and several threads ---- */

static int32_t by_value(const producer_record_t *record,
                        const producer_partition_info_t *partitions, size_t count,
                        void *user_data) {
  (void)partitions, (void)count;
  atomic_fetch_add((atomic_int *)user_data, 1);
  return record->value.data[0] - '0' - 1;
}

static void the_records_in_front_are_accepted(producer_mock_cluster_t *cluster) {
  producer_error_t error;
  atomic_int calls = 0;
  const producer_partitioner_t table = {sizeof table, &calls, by_value, NULL};
  producer_config_t *config = config_for(cluster);
  CHECK_STATUS(PRODUCER_OK, producer_config_set_partitioner(config, &table));
  producer_t *producer = start(config);
  producer_record_t records[5];
  const char *const values[] = {"4", "5", "0", "5", "6"};
  for (int i = 0; i < 5; i++)
    records[i] = (producer_record_t){.topic = producer_str("prefix"),
                                     .value = producer_str(values[i])};
  size_t accepted = 77;
  CHECK_FAILS(PRODUCER_ERR_PARTITIONING,
              producer_send_batch(producer, records, 5, 30000, &accepted, &error));
  CHECK_EQ(2, accepted);
  CHECK_EQ(3, calls); /* nobody behind the one that was refused was asked for */
  const int32_t lens[5] = {1, 1, 1, 1, 1};
  CHECK_FAILS(PRODUCER_ERR_PARTITIONING,
              producer_send_columns(producer, producer_str("prefix"), -1, bytes_of(NULL, 0), NULL,
                                    producer_str("65404"), lens, 5, 0, 30000, &accepted, &error));
  CHECK_EQ(3, accepted);
  CHECK_EQ(7, calls);
  CHECK_OK(producer_close(producer, 30000, NULL, &error));
  CHECK_COUNTERS(producer, 5, 0);
  const int64_t expected[PARTITIONS] = {0, 0, 0, 2, 2, 1};
  for (int i = 0; i < PARTITIONS; i++)
    CHECK_EQ(expected[i], producer_mock_cluster_end_offset(cluster, producer_str("prefix"), i));
  producer_free(producer);
}

enum { THREADS = 4, EACH = 3000 };

typedef struct {
  producer_t *producer;
  atomic_int calls, closed;
} shared_t;

static int32_t count_on(const producer_record_t *record,
                        const producer_partition_info_t *partitions, size_t count,
                        void *user_data) {
  shared_t *shared = user_data;
  (void)record;
  CHECK_EQ(0, shared->closed);
  int32_t at = atomic_fetch_add(&shared->calls, 1) % (int32_t)count;
  return partitions[at].partition;
}

static void closed(void *user_data) {
  atomic_fetch_add(&((shared_t *)user_data)->closed, 1);
}

static void *send_many(void *argument) {
  shared_t *shared = argument;
  producer_error_t error;
  for (int i = 0; i < EACH; i++) {
    /* Two topics in turn: neither is the thread's last one. */
    producer_record_t record = {.topic = producer_str(i % 2 ? "spread" : "spread-too"),
                                .value = producer_str("v")};
    CHECK_OK(producer_send(shared->producer, &record, &error));
  }
  return NULL;
}

static void from_several_threads(producer_mock_cluster_t *cluster) {
  producer_error_t error;
  shared_t shared = {0};
  const producer_partitioner_t table = {sizeof table, &shared, count_on, closed};
  producer_config_t *config = config_for(cluster);
  set_key(config, "batch.size", "4000");
  CHECK_STATUS(PRODUCER_OK, producer_config_set_partitioner(config, &table));
  shared.producer = start(config);
  pthread_t threads[THREADS];
  for (int i = 0; i < THREADS; i++)
    CHECK_EQ(0, pthread_create(&threads[i], NULL, send_many, &shared));
  for (int i = 0; i < THREADS; i++) CHECK_EQ(0, pthread_join(threads[i], NULL));
  CHECK_OK(producer_close(shared.producer, 30000, NULL, &error));
  CHECK_COUNTERS(shared.producer, THREADS * EACH, 0);
  CHECK_EQ(THREADS * EACH, shared.calls);
  CHECK_EQ(1, shared.closed);
  producer_free(shared.producer);
  CHECK_EQ(1, shared.closed);
}

int main(void) {
  producer_mock_cluster_t *cluster = new_cluster(3);
  const char *const topics[] = {"seen", "prefix", "spread", "spread-too"};
  for (size_t i = 0; i < sizeof topics / sizeof *topics; i++)
    CHECK_STATUS(PRODUCER_OK, producer_mock_cluster_create_topic(cluster, producer_str(topics[i]),
                                                                 PARTITIONS));
  CHECK_STATUS(PRODUCER_OK, producer_mock_cluster_create_topic(cluster, producer_str("t"), 1));
  CHECK_STATUS(PRODUCER_OK, producer_mock_cluster_set_leader(cluster, producer_str("seen"), 2, -1));
  tables(cluster);
  a_class_beside_it(cluster);
  sees_every_record_once(cluster);
  its_end_waits_for_callbacks(cluster);
  the_records_in_front_are_accepted(cluster);
  from_several_threads(cluster);
  producer_mock_cluster_free(cluster);
  return 0;
}
