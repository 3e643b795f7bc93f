/* Callbacks: which thread runs them, what may be called inside them, and that the producer's end
 * waits for them. */
#include "support.h"

#include <sys/syscall.h>

static long thread_id(void) { return syscall(SYS_gettid); }

typedef struct {
  producer_t *producer;
  ledger_t ledger;
  atomic_long thread;
  atomic_int inside, calls, sent_again, lines;
  pthread_mutex_t started;
} state_t;

static void check_thread(state_t *state) {
  long expected = 0;
  long self = thread_id();
  if (!atomic_compare_exchange_strong(&state->thread, &expected, self)) CHECK_EQ(expected, self);
  CHECK(self != getpid()); /* not the main thread */
}

static void on_log(producer_log_level_t level, const char *target, const char *message,
                   void *user_data) {
  state_t *state = user_data;
  check_thread(state);
  CHECK(level >= PRODUCER_LOG_ERROR && level <= PRODUCER_LOG_DEBUG);
  CHECK(target && target[0] && message && message[0]);
  atomic_fetch_add(&state->lines, 1);
}

/* Inside a callback nothing waits; sending and asking is allowed. */
static void on_deliveries(const producer_delivery_t *deliveries, size_t count, void *user_data) {
  state_t *state = user_data;
  producer_error_t error;
  check_thread(state);
  CHECK_EQ(0, atomic_fetch_add(&state->inside, 1)); /* one at a time */
  pthread_mutex_lock(&state->started); /* state->producer is set */
  pthread_mutex_unlock(&state->started);
  producer_t *producer = state->producer;
  ledger_callback(deliveries, count, &state->ledger);

  CHECK_FAILS(PRODUCER_ERR_WOULD_DEADLOCK, producer_flush(producer, 1000, &error));
  CHECK_FAILS(PRODUCER_ERR_WOULD_DEADLOCK, producer_close(producer, 1000, NULL, &error));
  producer_record_t record = {.topic = producer_str("inside")};
  producer_receipt_t receipt;
  CHECK_FAILS(PRODUCER_ERR_WOULD_DEADLOCK,
              producer_send_sync(producer, &record, 1000, &receipt, &error));
  char new_topic[32];
  int call = atomic_fetch_add(&state->calls, 1);
  snprintf(new_topic, sizeof new_topic, "never-seen-before-%d", call);
  producer_record_t unknown = {.topic = producer_str(new_topic)};
  CHECK_FAILS(PRODUCER_ERR_WOULD_DEADLOCK, producer_send(producer, &unknown, &error));
  snprintf(new_topic, sizeof new_topic, "nor-this-%d", call);
  unknown.topic = producer_str(new_topic);
  CHECK_FAILS(PRODUCER_ERR_METADATA_PENDING, producer_try_send(producer, &unknown, &error));
  producer_counters_t counters;
  CHECK_STATUS(PRODUCER_OK, producer_get_counters(producer, &counters));
  producer_partition_info_t partition;
  size_t partitions = 0;
  CHECK_OK(producer_partitions_for(producer, producer_str("inside"), &partition, 1, 0, &partitions,
                                   &error));
  CHECK_EQ(1, partitions);
  if (call < 3) {
    record.tag = 100 + (uint64_t)atomic_fetch_add(&state->sent_again, 1);
    CHECK_OK(producer_send(producer, &record, &error));
  }
  atomic_fetch_sub(&state->inside, 1);
}

static void threads_and_re_entry(producer_mock_cluster_t *cluster) {
  producer_error_t error;
  state_t state;
  memset(&state, 0, sizeof state);
  pthread_mutex_init(&state.started, NULL);
  ledger_init(&state.ledger, 103);
  /* Other topics are not known, and won't be: no answer comes between two looks. */
  CHECK_STATUS(PRODUCER_OK, producer_mock_cluster_create_topic(cluster, producer_str("inside"), 1));
  producer_config_t *config = config_for(cluster);
  set_key(config, "allow.auto.create.topics", "false");
  CHECK_STATUS(PRODUCER_OK, producer_config_set_delivery_callback(config, on_deliveries, &state));
  CHECK_STATUS(PRODUCER_OK,
               producer_config_set_log_callback(config, PRODUCER_LOG_DEBUG, on_log, &state));
  pthread_mutex_lock(&state.started);
  state.producer = start(config);
  pthread_mutex_unlock(&state.started);
  for (uint64_t tag = 0; tag < 100; tag++) {
    producer_record_t record = {.topic = producer_str("inside"), .tag = tag};
    CHECK_OK(producer_send(state.producer, &record, &error));
    if (tag % 20 == 19) CHECK_OK(producer_flush(state.producer, 30000, &error));
  }
  /* Flush waits for what was sent before it; what callbacks sent meanwhile is the next one's. */
  for (int i = 0; i < 4; i++) CHECK_OK(producer_flush(state.producer, 30000, &error));
  CHECK_LEDGER(&state.ledger, 0);
  CHECK_COUNTERS(state.producer, 103, 0);
  CHECK_OK(producer_close(state.producer, 30000, NULL, &error));
  CHECK(state.calls >= 3);
  CHECK(state.lines > 0);
  producer_free(state.producer);
  ledger_free(&state.ledger);
  pthread_mutex_destroy(&state.started);
}

typedef struct {
  atomic_int entered, let_go, left;
} gate_t;

static void on_gate(const producer_delivery_t *deliveries, size_t count, void *user_data) {
  gate_t *gate = user_data;
  (void)deliveries;
  (void)count;
  atomic_store(&gate->entered, 1);
  EVENTUALLY(atomic_load(&gate->let_go));
  atomic_fetch_add(&gate->left, 1);
}

static void *free_it(void *producer) {
  producer_free(producer);
  return NULL;
}

/* close says that a callback still runs; free waits until it does not. */
static void the_end_waits(producer_mock_cluster_t *cluster) {
  producer_error_t error;
  gate_t gate = {0};
  producer_config_t *config = config_for(cluster);
  CHECK_STATUS(PRODUCER_OK, producer_config_set_delivery_callback(config, on_gate, &gate));
  producer_t *producer = start(config);
  producer_record_t record = {.topic = producer_str("gate")};
  CHECK_OK(producer_send(producer, &record, &error));
  EVENTUALLY(atomic_load(&gate.entered));
  /* The record's outcome is there, its callback has not returned: flush waits for that. */
  CHECK_FAILS(PRODUCER_ERR_TIMED_OUT, producer_flush(producer, 20, &error));
  CHECK_FAILS(PRODUCER_ERR_TIMED_OUT, producer_close(producer, 20, NULL, &error));
  CHECK_EQ(0, gate.left);
  CHECK_FAILS(PRODUCER_ERR_CLOSED, producer_send(producer, &record, &error));
  pthread_t thread;
  CHECK_EQ(0, pthread_create(&thread, NULL, free_it, producer));
  sleep_ms(50);
  CHECK_EQ(0, gate.left);
  atomic_store(&gate.let_go, 1);
  CHECK_EQ(0, pthread_join(thread, NULL));
  CHECK_EQ(1, gate.left);
}

typedef struct {
  atomic_uintptr_t producer;
  atomic_int reported;
  atomic_int freed;
} suicide_t;

static void on_suicide(const producer_delivery_t *deliveries, size_t count, void *user_data) {
  suicide_t *state = user_data;
  producer_t *producer = (producer_t *)atomic_exchange(&state->producer, 0);
  if (producer) {
    producer_free(producer); /* put off: this very callback belongs to it */
    atomic_store(&state->freed, 1);
  }
  int reported = 0;
  for (size_t i = 0; i < count; i++) reported += (int)deliveries[i].count;
  /* The last that is done with `state`: with the last record it is gone. */
  atomic_fetch_add(&state->reported, reported);
}

/* A producer freed inside its own callback; what it still had is reported all the same. */
static void freed_inside(producer_mock_cluster_t *cluster) {
  producer_error_t error;
  suicide_t state = {0};
  producer_config_t *config = config_for(cluster);
  set_key(config, "linger.ms", "60000");
  CHECK_STATUS(PRODUCER_OK, producer_config_set_delivery_callback(config, on_suicide, &state));
  producer_t *producer = start(config);
  producer_record_t record = {.topic = producer_str("first")};
  CHECK_OK(producer_send(producer, &record, &error));
  record.topic = producer_str("second");
  CHECK_OK(producer_send(producer, &record, &error));
  CHECK_OK(producer_send(producer, &record, &error));
  atomic_store(&state.producer, (uintptr_t)producer);
  CHECK_STATUS(PRODUCER_OK, producer_purge(producer, producer_str("first"), -1));
  EVENTUALLY(atomic_load(&state.freed));
  EVENTUALLY(atomic_load(&state.reported) >= 3);
  CHECK_EQ(3, state.reported);
}

static void on_log_in_poll(producer_log_level_t level, const char *target, const char *message,
                           void *user_data) {
  suicide_t *state = user_data;
  (void)level, (void)target, (void)message;
  producer_t *producer = (producer_t *)atomic_exchange(&state->producer, 0);
  if (!producer) return;
  producer_delivery_t delivery;
  size_t count;
  CHECK_STATUS(PRODUCER_ERR_WOULD_DEADLOCK, producer_poll(producer, &delivery, 1, 0, &count));
  producer_free(producer); /* put off until the poll it is called in has returned */
  atomic_store(&state->freed, 1);
}

/* A producer freed by a log callback, inside the poll of that producer. */
static void freed_inside_poll(producer_mock_cluster_t *cluster) {
  producer_error_t error;
  suicide_t state = {0};
  producer_config_t *config = config_for(cluster);
  CHECK_STATUS(PRODUCER_OK, producer_config_enable_poll(config));
  CHECK_STATUS(PRODUCER_OK, producer_config_set_log_callback(config, PRODUCER_LOG_DEBUG,
                                                             on_log_in_poll, &state));
  producer_t *producer = start(config);
  atomic_store(&state.producer, (uintptr_t)producer);
  producer_record_t record = {.topic = producer_str("logged")};
  CHECK_OK(producer_send(producer, &record, &error));
  producer_delivery_t delivery;
  size_t count;
  for (int i = 0; i < 1000 && !state.freed; i++)
    CHECK_STATUS(PRODUCER_OK, producer_poll(producer, &delivery, 1, 20, &count));
  CHECK_EQ(1, state.freed);
}

/* Without a callback nothing is reported, and nothing waits for it. */
static void nobody_listens(producer_mock_cluster_t *cluster) {
  producer_error_t error;
  producer_t *producer = start(config_for(cluster));
  producer_record_t record = {.topic = producer_str("quiet")};
  for (int i = 0; i < 100; i++) CHECK_OK(producer_send(producer, &record, &error));
  CHECK_OK(producer_flush(producer, 30000, &error));
  CHECK_COUNTERS(producer, 100, 0);
  producer_free(producer);
}

/* A config's callbacks are copied, by producer_new() and by producer_config_clone(). */
static void copies(producer_mock_cluster_t *cluster) {
  producer_error_t error;
  ledger_t ledger;
  ledger_init(&ledger, 2);
  producer_config_t *config = config_for(cluster);
  CHECK_STATUS(PRODUCER_OK, producer_config_set_delivery_callback(config, ledger_callback,
                                                                  &ledger));
  set_key(config, "client.id", "original");
  producer_config_t *clone = producer_config_clone(config);
  set_key(clone, "client.id", "copy");
  CHECK_TEXT("original", producer_config_get(config, "client.id"));
  CHECK_TEXT("copy", producer_config_get(clone, "client.id"));
  producer_t *producers[2] = {start(config), start(clone)};
  for (uint64_t i = 0; i < 2; i++) {
    producer_record_t record = {.topic = producer_str("copies"), .tag = i};
    CHECK_OK(producer_send(producers[i], &record, &error));
    CHECK_OK(producer_close(producers[i], 30000, NULL, &error));
    producer_free(producers[i]);
  }
  CHECK_LEDGER(&ledger, 0);
  ledger_free(&ledger);
}

int main(void) {
  producer_mock_cluster_t *cluster = new_cluster(1);
  threads_and_re_entry(cluster);
  the_end_waits(cluster);
  freed_inside(cluster);
  freed_inside_poll(cluster);
  nobody_listens(cluster);
  copies(cluster);
  producer_mock_cluster_free(cluster);
  return 0;
}
