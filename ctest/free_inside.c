/* producer_free() inside callbacks: it returns at once, the rest is put off until the callback has
 * returned. Then what is left is reported, by the same thread and once, and nothing stays behind:
 * no thread, no descriptor, no memory (under AddressSanitizer). */
#include "support.h"

enum { RECORDS = 40 };

typedef struct {
  producer_mock_cluster_t *cluster;
  atomic_uintptr_t to_free; /* the producer that the next callback frees */
  pthread_t thread;         /* that runs callbacks */
  atomic_int called, freed, inside;
  atomic_int may_return;
  ledger_t ledger;
} state_t;

/* Threads of producers, and descriptors, of this process. */
static int threads_left(void) { return threads_named("kafka-") - threads_named("kafka-mock"); }

static int descriptors(void) {
  int count = 0;
  DIR *folder = opendir("/proc/self/fd");
  CHECK(folder);
  while (readdir(folder)) count++;
  closedir(folder);
  return count;
}

/* No thread is left, and then no descriptor: the broker's end of a connection too, once it is no
 * longer frozen. */
static void wait_for_the_end(producer_mock_cluster_t *cluster, int descriptors_before) {
  EVENTUALLY(threads_left() == 0);
  CHECK_STATUS(PRODUCER_OK, producer_mock_cluster_set_broker(cluster, 1, true, false, 0, 0));
  EVENTUALLY(descriptors() <= descriptors_before);
}

/* Frees the producer whose turn it is, and stays on the stack until it may go. */
static void free_inside(state_t *state) {
  if (atomic_fetch_add(&state->called, 1) == 0)
    state->thread = pthread_self();
  else
    CHECK(pthread_equal(state->thread, pthread_self()));
  CHECK_EQ(0, atomic_fetch_add(&state->inside, 1));
  producer_t *producer = (producer_t *)atomic_exchange(&state->to_free, 0);
  if (producer) {
    int64_t begin = now_ms();
    producer_free(producer);
    CHECK(now_ms() - begin < LONG_MS / 2);
    atomic_store(&state->freed, 1);
    while (!atomic_load(&state->may_return)) sleep_ms(1);
  }
  CHECK_EQ(1, atomic_fetch_sub(&state->inside, 1));
}

static void on_deliveries(const producer_delivery_t *deliveries, size_t count, void *user_data) {
  state_t *state = user_data;
  /* Before the free: what was given stays valid for the callback, after it too. */
  free_inside(state);
  ledger_callback(deliveries, count, &state->ledger);
}

static void on_line(producer_log_level_t level, const char *target, const char *message,
                    void *user_data) {
  (void)level, (void)target;
  free_inside(user_data);
  CHECK(message[0]);
}

static void send_one(producer_t *producer, const char *topic, uint64_t tag) {
  producer_error_t error;
  producer_record_t record = {.topic = producer_str(topic), .tag = tag};
  CHECK_OK(producer_send(producer, &record, &error));
}

/* A producer with a record in flight that is not answered, others behind it, and others that
 * linger; the first outcome, a purge's, frees it. */
static void in_a_delivery_callback(producer_mock_cluster_t *cluster, int stay_ms) {
  producer_error_t error;
  int before = descriptors();
  state_t state = {.cluster = cluster};
  ledger_init(&state.ledger, RECORDS);
  producer_config_t *config = config_for(cluster);
  set_key(config, "linger.ms", "60000"); /* what is not flushed is not written */
  CHECK_STATUS(PRODUCER_OK, producer_config_set_delivery_callback(config, on_deliveries, &state));
  producer_t *producer = start(config);
  /* From here on there is a connection, and the producer has its id. */
  for (int i = 0; i < 3; i++) {
    const char *const topics[] = {"first", "second", "third"};
    producer_record_t record = {.topic = producer_str(topics[i])};
    CHECK_OK(producer_send_sync(producer, &record, LONG_MS, &(producer_receipt_t){0}, &error));
  }
  CHECK_STATUS(PRODUCER_OK, producer_mock_cluster_set_broker(cluster, 1, true, true, 0, 0));
  for (uint64_t tag = 0; tag < RECORDS / 2; tag++) send_one(producer, "second", tag);
  CHECK_FAILS(PRODUCER_ERR_TIMED_OUT, producer_flush(producer, 10, &error));
  for (uint64_t tag = RECORDS / 2; tag < RECORDS; tag++) send_one(producer, "first", tag);
  atomic_store(&state.to_free, (uintptr_t)producer);
  /* What its callback does to the handle happens when this call may have returned, or not. */
  CHECK_STATUS(PRODUCER_OK, producer_purge(producer, producer_str("first"), -1));
  EVENTUALLY(atomic_load(&state.freed));
  sleep_ms(stay_ms);
  /* Put off: the callback is still on the stack, and nothing else is reported meanwhile. */
  CHECK_EQ(1, state.called);
  CHECK_EQ(0, state.ledger.reported);
  CHECK(threads_left() > 0);
  atomic_store(&state.may_return, 1);
  wait_for_the_end(cluster, before);
  CHECK_LEDGER(&state.ledger, RECORDS);
  CHECK_EQ(PRODUCER_ERR_ABORTED, state.ledger.last_failure);
  CHECK(state.called > 1);
  ledger_free(&state.ledger);
}

/* The same from a log line, on the callback thread. */
static void in_a_log_callback(producer_mock_cluster_t *cluster) {
  producer_error_t error;
  int before = descriptors();
  state_t state = {.cluster = cluster};
  producer_config_t *config = config_for(cluster);
  CHECK_STATUS(PRODUCER_OK,
               producer_config_set_log_callback(config, PRODUCER_LOG_DEBUG, on_line, &state));
  producer_t *producer = start(config);
  producer_record_t record = {.topic = producer_str("first")};
  CHECK_OK(producer_send_sync(producer, &record, LONG_MS, &(producer_receipt_t){0}, &error));
  /* The end of the connection makes a line, if no other one comes before. */
  atomic_store(&state.to_free, (uintptr_t)producer);
  CHECK_STATUS(PRODUCER_OK, producer_mock_cluster_set_broker(cluster, 1, false, false, 0, 0));
  EVENTUALLY(atomic_load(&state.freed));
  int called = atomic_load(&state.called);
  sleep_ms(50);
  CHECK_EQ(called, state.called);
  CHECK(threads_left() > 0);
  atomic_store(&state.may_return, 1);
  wait_for_the_end(cluster, before);
}

/* From a log line inside producer_poll(): when that has returned, the producer is gone, and nothing
 * was put off to anywhere else. */
static void in_a_poll(producer_mock_cluster_t *cluster) {
  int before = descriptors();
  state_t state = {.cluster = cluster, .may_return = 1};
  producer_config_t *config = config_for(cluster);
  CHECK_STATUS(PRODUCER_OK, producer_config_enable_poll(config));
  CHECK_STATUS(PRODUCER_OK,
               producer_config_set_log_callback(config, PRODUCER_LOG_DEBUG, on_line, &state));
  producer_t *producer = start(config);
  for (uint64_t tag = 0; tag < RECORDS; tag++) send_one(producer, "first", tag);
  producer_delivery_t deliveries[4];
  size_t count;
  int polls = 0;
  atomic_store(&state.to_free, (uintptr_t)producer);
  while (!state.freed) {
    CHECK(polls++ < 3000);
    CHECK_STATUS(PRODUCER_OK, producer_poll(producer, deliveries, 4, 20, &count));
  }
  CHECK(pthread_equal(state.thread, pthread_self()));
  /* Not "in the end": now. */
  CHECK_EQ(0, threads_left());
  wait_for_the_end(cluster, before);
}

/* A callback frees another producer, whose callback has to be waited for. */
static void another_one(producer_mock_cluster_t *cluster) {
  producer_error_t error;
  int before = descriptors();
  state_t one = {.cluster = cluster, .may_return = 1}, other = {.cluster = cluster};
  ledger_init(&one.ledger, 1);
  ledger_init(&other.ledger, RECORDS);
  producer_config_t *config = config_for(cluster);
  CHECK_STATUS(PRODUCER_OK, producer_config_set_delivery_callback(config, on_deliveries, &one));
  producer_t *frees = start(config);
  config = config_for(cluster);
  set_key(config, "linger.ms", "60000");
  CHECK_STATUS(PRODUCER_OK, producer_config_set_delivery_callback(config, on_deliveries, &other));
  producer_t *is_freed = start(config);
  for (uint64_t tag = 0; tag < RECORDS; tag++) send_one(is_freed, "first", tag);
  atomic_store(&one.to_free, (uintptr_t)is_freed);
  send_one(frees, "second", 0);
  CHECK_OK(producer_flush(frees, 30000, &error));
  CHECK_EQ(1, one.freed);
  CHECK_OK(producer_close(frees, 30000, NULL, &error));
  producer_free(frees);
  wait_for_the_end(cluster, before);
  CHECK_LEDGER(&one.ledger, 0);
  CHECK_LEDGER(&other.ledger, RECORDS);
  ledger_free(&one.ledger);
  ledger_free(&other.ledger);
}

int main(void) {
  producer_mock_cluster_t *cluster = new_cluster(1);
  const char *const topics[] = {"first", "second", "third"};
  for (int i = 0; i < 3; i++)
    CHECK_STATUS(PRODUCER_OK,
                 producer_mock_cluster_create_topic(cluster, producer_str(topics[i]), 1));
  in_a_delivery_callback(cluster, 200);
  for (int round = 0; round < 20; round++) in_a_delivery_callback(cluster, round % 3);
  for (int round = 0; round < 5; round++) in_a_log_callback(cluster);
  for (int round = 0; round < 20; round++) in_a_poll(cluster);
  for (int round = 0; round < 20; round++) another_one(cluster);
  producer_mock_cluster_free(cluster);
  return 0;
}
